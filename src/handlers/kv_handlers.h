/* Handlers of the key-value calls: for the method table. Each answers exactly once, in time or from another thread.
 *
 * Point reads run on the reactor without waiting and start over on a worker when something is not in memory; scans, histories and
 * counts run on a worker; writes build their draft where they are and are answered by the thread that committed it. */
#ifndef HANDLERS_KV_HANDLERS_H
#define HANDLERS_KV_HANDLERS_H

struct request;

/* kv_read_handlers.c: message KeyRequest, KeyListRequest, ScanRequest, ZScanRequest, HistoryRequest, KeyPrefix, Empty */
void handle_get(struct request *rq);
void handle_get_all(struct request *rq);
void handle_scan(struct request *rq);
void handle_zscan(struct request *rq);
void handle_history(struct request *rq);
void handle_count(struct request *rq);
void handle_count_all(struct request *rq);

/* kv_write_handlers.c: SetRequest, DeleteKeysRequest, ReferenceRequest, ZAddRequest, ExecAllRequest, and the verifiable ones */
void handle_set(struct request *rq);
void handle_delete(struct request *rq);
void handle_set_reference(struct request *rq);
void handle_zadd(struct request *rq);
void handle_exec_all(struct request *rq);
void handle_verifiable_set(struct request *rq);
void handle_verifiable_set_reference(struct request *rq);
void handle_verifiable_zadd(struct request *rq);

/* kv_tx_handlers.c: TxRequest, TxScanRequest, Empty */
void handle_tx_by_id(struct request *rq);
void handle_tx_scan(struct request *rq);
void handle_current_state(struct request *rq);

/* kv_verify_handlers.c: VerifiableGetRequest, VerifiableTxRequest */
void handle_verifiable_get(struct request *rq);
void handle_verifiable_tx_by_id(struct request *rq);

/* stream_out_handlers.c (server streams): KeyRequest, VerifiableGetRequest, ScanRequest, ZScanRequest, HistoryRequest */
void handle_stream_get(struct request *rq);
void handle_stream_verifiable_get(struct request *rq);
void handle_stream_scan(struct request *rq);
void handle_stream_zscan(struct request *rq);
void handle_stream_history(struct request *rq);

/* stream_in_handlers.c (client streams): raw messages */
void handle_stream_set(struct request *rq);
void handle_stream_verifiable_set(struct request *rq);
void handle_stream_exec_all(struct request *rq);

/* export_handlers.c: exportTx ExportTxRequest (server stream); streamExportTx (both ways) and replicateTx (client stream) raw */
void handle_export_tx(struct request *rq);
void handle_stream_export_tx(struct request *rq);
void handle_replicate_tx(struct request *rq);

/* kv_admin_handlers.c: FlushIndexRequest, Empty, TruncateDatabaseRequest */
void handle_flush_index(struct request *rq);
void handle_compact_index(struct request *rq);

#endif
