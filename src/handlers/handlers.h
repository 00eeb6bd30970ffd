/* Handlers that are not of the key-value calls: rows of methods.c. Which message each gets stands there. */
#ifndef HANDLERS_HANDLERS_H
#define HANDLERS_HANDLERS_H

struct request;

/* auth_handlers.c */
void handle_login(struct request *rq);
void handle_logout(struct request *rq);
void handle_open_session(struct request *rq);
void handle_open_session_v2(struct request *rq);
void handle_close_session(struct request *rq);
void handle_keep_alive(struct request *rq);
void handle_use_database(struct request *rq);

/* info_handlers.c */
void handle_health(struct request *rq);
void handle_server_info(struct request *rq);
void handle_database_health(struct request *rq);
void handle_unsupported(struct request *rq);

/* database_handlers.c */
void handle_create_database(struct request *rq);
void handle_create_database_with(struct request *rq);
void handle_create_database_v2(struct request *rq);
void handle_database_list(struct request *rq);
void handle_database_list_v2(struct request *rq);
void handle_load_database(struct request *rq);
void handle_unload_database(struct request *rq);
void handle_delete_database(struct request *rq);
void handle_update_database(struct request *rq);
void handle_update_database_v2(struct request *rq);
void handle_get_database_settings(struct request *rq);
void handle_get_database_settings_v2(struct request *rq);
void handle_truncate_database(struct request *rq);

/* tx_handlers.c */
void handle_new_tx(struct request *rq);
void handle_commit(struct request *rq);
void handle_rollback(struct request *rq);
void handle_tx_sql(struct request *rq);

/* user_handlers.c */
void handle_list_users(struct request *rq);
void handle_create_user(struct request *rq);
void handle_change_password(struct request *rq);
void handle_change_permission(struct request *rq);
void handle_change_sql_privileges(struct request *rq);
void handle_set_active_user(struct request *rq);

#endif
