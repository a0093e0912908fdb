/*
 * mos_api.h - the contract between the C core and Python.
 *
 * Plain declarations only: this file is the C header (through mos.h) and, unchanged, the cffi
 * cdef text, so it holds no #include, no guard and no attribute.  Python takes every constant
 * from here; nothing repeats a number.
 *
 * Units: times are nanoseconds (`_ns`), sizes are bytes, both as 64-bit unsigned integers unless
 * said otherwise.  Numbers are in host byte order unless the name ends in `_be`.
 * Errors: functions that return int or int64_t give >= 0 on success and -errno on failure
 * (errno(3)); mos_error_text() then says what failed, why, and what to do.
 * Threads: a context belongs to the thread that created it; calls from another thread give
 * -EPERM.  Different contexts share nothing and may run in different threads.
 * Ownership: pointers handed to a callback, or returned here, are valid until the callback
 * returns or the next call on the same context, whichever is first.
 */

/* ---- events, hooks, sides (the values of the mOS manual) ------------------------------- */

/* Built-in events: one bit each, fired in the order documented in docs/events.md. */
enum mos_event {
	MOS_NULL_EVENT = 0x0,
	MOS_ON_PKT_IN = 0x1,
	MOS_ON_CONN_START = 0x4,
	MOS_ON_CONN_NEW_DATA = 0x10,
	MOS_ON_ERROR = 0x20,
	MOS_ON_TCP_STATE_CHANGE = 0x80,
	MOS_ON_ORPHAN = 0x100,
	MOS_ON_REXMIT = 0x200,
	MOS_ON_CONN_END = 0x400
};

/* Hooks.  HK_SND: after the sender's stack was updated; HK_RCV: after the receiver's. */
enum mos_hook {
	MOS_NULL = 0x20000000,
	MOS_HK_RCV = 0x40000000,
	MOS_HK_SND = 0x80000000
};

/* Sides.  The client is the host that sent the first SYN. */
enum mos_side {
	MOS_SIDE_CLI = 0,
	MOS_SIDE_SVR = 1,
	MOS_SIDE_BOTH = 2
};

enum mos_socket_type {
	MOS_SOCK_UNUSED = 0,
	MOS_SOCK_MONITOR_STREAM = 3,
	MOS_SOCK_MONITOR_STREAM_ACTIVE = 6,
	MOS_SOCK_MONITOR_RAW = 7
};

/* Level and names of mos_getsockopt()/mos_setsockopt(). */
enum mos_socket_level {
	SOL_MONSOCKET = 0xfffe
};

enum mos_socket_option {
	MOS_FRAGINFO_CLIBUF = 0x01,
	MOS_FRAGINFO_SVRBUF = 0x02,
	MOS_INFO_CLIBUF = 0x03,
	MOS_INFO_SVRBUF = 0x04,
	MOS_TCP_STATE_CLI = 0x05,
	MOS_TCP_STATE_SVR = 0x06,
	MOS_TIMESTAMP = 0x07,
	MOS_CLIBUF = 0x09,
	MOS_SVRBUF = 0x0a,
	MOS_STOP_MON = 0x0c,
	MOS_CLIOVERLAP = 0x0f,
	MOS_SVROVERLAP = 0x10
};

/* TCP states of RFC 9293 3.3.2, numbered as mOS does. */
enum mos_tcp_state {
	MOS_TCP_CLOSED = 0,
	MOS_TCP_LISTEN = 1,
	MOS_TCP_SYN_SENT = 2,
	MOS_TCP_SYN_RCVD = 3,
	MOS_TCP_ESTABLISHED = 4,
	MOS_TCP_FIN_WAIT_1 = 5,
	MOS_TCP_FIN_WAIT_2 = 6,
	MOS_TCP_CLOSE_WAIT = 7,
	MOS_TCP_CLOSING = 8,
	MOS_TCP_LAST_ACK = 9,
	MOS_TCP_TIME_WAIT = 10,
	MOS_TCP_STATES = 11
};

/* Which copy of a byte that was sent twice with different values is kept. */
enum mos_overlap_policy {
	MOS_OVERLAP_POLICY_FIRST = 0,
	MOS_OVERLAP_POLICY_LAST = 1,
	MOS_OVERLAP_POLICY_LINUX = 2,
	MOS_OVERLAP_POLICY_BSD = 3,
	MOS_OVERLAP_POLICY_WINDOWS = 4,
	MOS_OVERLAP_POLICY_SOLARIS = 5,
	MOS_OVERLAP_POLICIES = 6
};

/* Why a flow ended; names in end_reason_list.h. */
enum mos_end_reason {
	MOS_END_NONE = 0,
	MOS_END_FIN = 1,
	MOS_END_RST = 2,
	MOS_END_TIMEOUT = 3,
	MOS_END_PORT_REUSE = 4,
	MOS_END_EVICTED = 5,
	MOS_END_EOF = 6,
	MOS_END_SHUTDOWN = 7,
	MOS_END_REASONS = 8
};

/* Class of a segment, one each, in order of precedence; names in segment_class_list.h. */
enum mos_segment_class {
	MOS_SEG_NORMAL = 0,
	MOS_SEG_ZERO_WINDOW_PROBE = 1,
	MOS_SEG_KEEP_ALIVE = 2,
	MOS_SEG_SPURIOUS_RETRANSMISSION = 3,
	MOS_SEG_FAST_RETRANSMISSION = 4,
	MOS_SEG_RETRANSMISSION = 5,
	MOS_SEG_OUT_OF_ORDER = 6,
	MOS_SEG_UNSEEN_RETRANSMISSION = 7,
	MOS_SEG_CLASSES = 8
};

/* Reason of MOS_ON_ERROR; names and sentences in error_list.h. */
enum mos_error_reason {
	MOS_ERR_NONE = 0,
	MOS_ERR_OUT_OF_WINDOW = 1,
	MOS_ERR_ACK_OUT_OF_WINDOW = 2,
	MOS_ERR_RST_OUT_OF_WINDOW = 3,
	MOS_ERR_SYN_IN_WINDOW = 4,
	MOS_ERR_ALIVE_AFTER_RST = 5,
	MOS_ERR_BUFFER_OVERRUN = 6,
	MOS_ERR_HOLE_SKIPPED = 7,
	MOS_ERR_CONFLICTING_OVERLAP = 8,
	MOS_ERR_TABLE_FULL = 9,
	MOS_ERR_NO_MEMORY = 10,
	MOS_ERR_OLD_TIMESTAMP = 11,
	MOS_ERR_DATA_BEYOND_FIN = 12,
	MOS_ERR_RANGES_FULL = 13,
	MOS_ERR_NO_ACK_FLAG = 14,
	MOS_ERR_BAD_OPTIONS = 15,
	MOS_ERR_SHORT_FRAME = 16,
	MOS_ERR_URGENT_DATA = 17,
	MOS_ERR_REASONS = 18
};

/*
 * What became of every frame received; names and sentences in counter_list.h.
 * received = delivered + the sum of all MOS_CNT_IGNORED_* + the sum of all MOS_CNT_DROPPED_*.
 * `delivered` counts frames that reached a flow, or the orphan and raw callbacks.
 */
enum mos_counter {
	MOS_CNT_RECEIVED = 0,
	MOS_CNT_RECEIVED_BYTES,
	MOS_CNT_DELIVERED,
	MOS_CNT_DELIVERED_FLOW,
	MOS_CNT_DELIVERED_LATE,
	MOS_CNT_DELIVERED_ORPHAN_TCP,
	MOS_CNT_DELIVERED_ORPHAN_OTHER,
	MOS_CNT_IGNORED_SHORT_LINK,
	MOS_CNT_IGNORED_LINK_TYPE,
	MOS_CNT_IGNORED_NOT_IP,
	MOS_CNT_IGNORED_SHORT_IP,
	MOS_CNT_IGNORED_BAD_IP_HEADER,
	MOS_CNT_IGNORED_FRAGMENT,
	MOS_CNT_IGNORED_BAD_FRAGMENT,
	MOS_CNT_IGNORED_SHORT_TCP,
	MOS_CNT_IGNORED_BAD_TCP_HEADER,
	MOS_CNT_IGNORED_BAD_CHECKSUM,
	MOS_CNT_IGNORED_TOO_DEEP,
	MOS_CNT_IGNORED_DUPLICATE,
	MOS_CNT_IGNORED_FILTERED,
	MOS_CNT_DROPPED_TABLE_FULL,
	MOS_CNT_DROPPED_NO_MEMORY,
	MOS_CNT_DROPPED_FRAGMENT_MEMORY,
	MOS_CNT_FLOWS_CREATED,
	MOS_CNT_FLOWS_LIVE,
	MOS_CNT_FLOWS_FIN,
	MOS_CNT_FLOWS_RST,
	MOS_CNT_FLOWS_TIMEOUT,
	MOS_CNT_FLOWS_PORT_REUSE,
	MOS_CNT_FLOWS_EVICTED,
	MOS_CNT_FLOWS_EOF,
	MOS_CNT_FLOWS_SHUTDOWN,
	MOS_CNT_FLOWS_LINGERING,
	MOS_CNT_REXMIT,
	MOS_CNT_ERRORS,
	MOS_CNT_CALLBACKS,
	MOS_CNT_CALLBACK_ERRORS,
	MOS_CNT_PORT_RECEIVED,
	MOS_CNT_PORT_DROPPED,
	MOS_CNT_PORT_NO_MBUF,
	MOS_CNT_STREAM_PAGES,
	MOS_CNT_RANGES,
	MOS_CNT_FRAGMENTS_OVERLAPPED,
	MOS_CNT_DATAGRAMS_REASSEMBLED,
	MOS_CNT_DATAGRAMS_TIMED_OUT,
	MOS_CNT_DATAGRAMS_EVICTED,
	MOS_CNT_COUNTERS
};

/* What mos_run() says. */
enum mos_run_result {
	MOS_RUN_MORE = 0,    /* the slice is over, the input is not */
	MOS_RUN_IDLE = 1,    /* live only: nothing arrived; sleep a little, then call again */
	MOS_RUN_END = 2,     /* the input is finished; call mos_finish() */
	MOS_RUN_STOPPED = 3, /* a callback raised, or mos_stop() was called */
	MOS_RUN_ERROR = 4    /* the input failed; mos_error_text() says how */
};

/* ---- configuration ---------------------------------------------------------------------- */

/* Filled by mos_config_defaults(); mos_context_create() checks and copies it. */
struct mos_config {
	uint64_t idle_timeout_ns;      /* no packet for this long ends a flow; 0 = never */
	uint64_t handshake_timeout_ns; /* the same before ESTABLISHED; 0 = as idle */
	uint64_t time_wait_ns;         /* TIME_WAIT lasts this long; 0 = it counts as finished */
	uint64_t linger_ns;            /* a finished flow's record takes late segments this long */
	uint64_t max_stream_bytes;     /* cap on stored stream bytes, whole context */
	uint64_t max_fragment_bytes;   /* cap on IP fragments that wait, whole context */
	uint64_t fragment_timeout_ns;  /* how long fragments wait for the rest; 0 = until evicted */
	uint64_t hash_seed;            /* used if has_hash_seed; else the system's randomness */
	uint32_t max_flows;            /* cap on flow records, lingering ones included */
	uint32_t max_ranges;           /* cap on holes, whole context */
	uint32_t rmem_size;            /* unread bytes kept a side, unless set on a socket */
	uint32_t burst;                /* packets a burst, 1..64 */
	uint8_t has_hash_seed;
	uint8_t midstream;        /* open flows on any TCP packet */
	uint8_t verify_checksums; /* ignore packets with a bad IPv4 or TCP checksum */
	uint8_t history;          /* keep bytes that every reader consumed */
	uint8_t on_error_log;     /* callback exceptions are logged, not raised */
};

struct mos_context;

void mos_config_defaults(struct mos_config *config);

/* ---- context ---------------------------------------------------------------------------- */

/*
 * Make a context with no source.  `config` may be NULL (defaults).  On failure returns NULL and
 * writes a sentence to err (NUL-terminated, cut to errlen).
 * `pyctx` and `parked` are borrowed Python objects kept alive by the caller until
 * mos_context_destroy(): the first argument of every callback, and the list that receives the
 * exceptions callbacks raise.
 */
struct mos_context *mos_context_create(const struct mos_config *config, void *pyctx, void *parked, char *err,
                                       size_t errlen);

/* Free everything; no event fires (call mos_finish() first).  NULL is allowed. */
void mos_context_destroy(struct mos_context *ctx);

/*
 * 0 if this thread may use the context, else -EACCES (no context) or -EPERM; with `idle` also
 * -EBUSY while its loop runs, that is inside a callback.
 */
int mos_check(struct mos_context *ctx, int idle);

/* The sentence of the last failure on this context ("" if none).  For ctx NULL: of this thread. */
const char *mos_error_text(struct mos_context *ctx);

/*
 * Choose the input: one or more capture files ("-" = standard input), merged by time, or one
 * network interface.  -EBUSY if a source is already open.
 */
int mos_source_files(struct mos_context *ctx, const char *const *paths, int count);
/* 1 for an existing network interface, 0 if there is none of that name. */
int mos_is_interface(const char *name);
int mos_source_interface(struct mos_context *ctx, const char *name);

/*
 * Run for at most about `slice_ns`, ending between bursts: enum mos_run_result.
 * Needs no GIL; takes it only to call Python.
 */
int mos_run(struct mos_context *ctx, uint64_t slice_ns);

/*
 * End every live flow with `reason` (EOF or SHUTDOWN), in creation order, and close the source.
 * Returns MOS_RUN_END, or MOS_RUN_STOPPED when a callback raised (call again to go on).
 */
int mos_finish(struct mos_context *ctx, int reason);

/* Ask the loop to end at the next burst.  The only call allowed from a signal handler. */
void mos_stop(struct mos_context *ctx);

/* One counter of enum mos_counter; its name ("delivered_flow"); its sentence. */
uint64_t mos_counter(struct mos_context *ctx, int counter);
const char *mos_counter_name(int counter);
const char *mos_counter_text(int counter);

/* What the source wants to say without having failed ("" if nothing): frames cut, ... */
const char *mos_source_notice(struct mos_context *ctx);

/* Bytes of input consumed and the total (0 = unknown), for a progress bar. */
uint64_t mos_source_position(struct mos_context *ctx);
uint64_t mos_source_size(struct mos_context *ctx);

/* The packet clock: the largest packet time seen, ns since the epoch; 0 before the first. */
uint64_t mos_now(struct mos_context *ctx);

/* ---- sockets ---------------------------------------------------------------------------- */

/* domain: AF_INET, AF_INET6 or AF_UNSPEC (0); type: MOS_SOCK_MONITOR_STREAM or _RAW. */
int64_t mos_socket(struct mos_context *ctx, int domain, int type);
int mos_close(struct mos_context *ctx, int64_t sock);

/* enum mos_socket_type of a socket (ACTIVE for a flow's), or -EBADF. */
int mos_socktype(struct mos_context *ctx, int64_t sock);

/*
 * Compile and set the pcap-filter(7) texts of a listening socket; NULL removes one.  Stream
 * sockets take syn and orphan, raw sockets raw; another one gives -ENOPROTOOPT.  -EINVAL for a bad
 * text: the error text gives libpcap's sentence and the position.  On failure nothing changes.
 */
int mos_bind_filters(struct mos_context *ctx, int64_t sock, const char *syn, const char *orphan, const char *raw);

/* Set, replace or (callable NULL) remove a callback.  The table holds its own reference. */
int mos_register(struct mos_context *ctx, int64_t sock, uint64_t event, uint32_t hook, void *callable);

int mos_getpeername(struct mos_context *ctx, int64_t sock, int side, char host[64], uint16_t *port);

/* Options with an integer value. */
int64_t mos_getsockopt(struct mos_context *ctx, int64_t sock, int level, int option);
int mos_setsockopt(struct mos_context *ctx, int64_t sock, int level, int option, int64_t value);

/* One contiguous run of stored bytes: stream offset of its first byte (0 = ISN + 1), length. */
struct mos_fragment {
	uint64_t offset, len;
};

/* Where the receive buffer of a side stands; stream offsets, 0 = ISN + 1. */
struct mos_buffer_info {
	uint32_t init_seq;           /* sequence number of offset 0, host order */
	uint64_t last_byte_read;     /* next byte this socket would read */
	uint64_t next_byte_expected; /* readable up to here */
	uint64_t last_byte_received; /* one past the highest stored byte, also beyond holes */
};

/*
 * The runs of bytes that `side`'s receive buffer stores, lowest first: writes at most `max`,
 * returns how many there are.  -EACCES when this socket does not read that side.
 */
int64_t mos_getfragments(struct mos_context *ctx, int64_t sock, int side, struct mos_fragment *fragment, size_t max);
int mos_getbufferinfo(struct mos_context *ctx, int64_t sock, int side, struct mos_buffer_info *info);

/*
 * Copy up to len unread bytes received by `side` into buf and move this socket's position.
 * Returns the bytes copied, 0 when nothing is new.  When bytes were lost before the position
 * (skipped gap or overrun): -ENODATA once, *missed says how many; the position then stands
 * behind them.  Without moving: mos_ppeek() reads at any stored offset (0 = ISN + 1).
 */
int64_t mos_peek(struct mos_context *ctx, int64_t sock, int side, uint8_t *buf, size_t len, uint64_t *missed);
int64_t mos_ppeek(struct mos_context *ctx, int64_t sock, int side, uint8_t *buf, size_t len, uint64_t offset);
/* How many bytes mos_peek() would give now; same errors. */
int64_t mos_readable(struct mos_context *ctx, int64_t sock, int side, uint64_t *missed);

/* ---- the packet at hand ----------------------------------------------------------------- */

/*
 * Filled by mos_getlastpkt().  Offsets count from the frame's first byte; UINT32_MAX says that
 * the layer is absent.  `offset` is the position of the payload's first byte in the
 * stream (0 = ISN + 1), or UINT64_MAX when there is none.
 */
struct mos_packet {
	const uint8_t *frame; /* valid during the callback */
	uint64_t time_ns;     /* since the epoch */
	uint64_t number;      /* frames read before this one, plus 1 */
	uint64_t offset;
	uint32_t frame_len;        /* bytes captured */
	uint32_t wire_len;         /* bytes on the wire */
	uint32_t payload_len;      /* TCP payload by the IP length */
	uint32_t payload_captured; /* of it, present in the frame */
	uint32_t seq;
	uint32_t ack;
	uint32_t window; /* as in the header, unscaled */
	uint32_t eth_offset;
	uint32_t ip_offset;
	uint32_t tcp_offset;
	uint32_t payload_offset;
	uint16_t in_port;      /* index of the interface */
	uint8_t flags;         /* TCP flags octet, RFC 9293 3.1 */
	uint8_t segment_class; /* enum mos_segment_class */
	uint8_t is_rexmit;
};

/* -EACCES when there is no packet (timers, NEW_DATA at MOS_NULL, CONN_END). */
int mos_getlastpkt(struct mos_context *ctx, int64_t sock, int side, struct mos_packet *packet);

/* Number of the packet at hand (frames read before it, plus 1), 0 when there is none. */
uint64_t mos_packet_number(struct mos_context *ctx);

/* ---- the error at hand ------------------------------------------------------------------ */

struct mos_error {
	int32_t reason;  /* enum mos_error_reason */
	uint64_t offset; /* stream offset it is about, UINT64_MAX if none */
	uint64_t length; /* bytes it is about */
};
int mos_getlasterror(struct mos_context *ctx, struct mos_error *error);
const char *mos_error_name(int reason);
const char *mos_error_sentence(int reason);

/* ---- figures of a flow ------------------------------------------------------------------ */

/* Per direction; index 0 = client to server.  UINT64_MAX = not measured. */
struct mos_direction_figures {
	uint64_t packets, wire_bytes, payload_bytes, stream_bytes, undelivered_bytes;
	uint64_t syn, fin, rst;
	uint64_t retransmission, fast_retransmission, spurious_retransmission, unseen_retransmission;
	uint64_t out_of_order, keep_alive, zero_window_probe, duplicate_ack, zero_window;
	uint64_t gaps, gap_bytes;
	uint64_t rtt_min_ns, rtt_mean_ns, rtt_max_ns;
	uint64_t max_window, mss;
	uint8_t sack_permitted, timestamps, window_scale; /* window_scale 255 = not offered */
};

struct mos_flow_figures {
	uint64_t flow_id;
	uint64_t start_ns, end_ns;
	uint64_t handshake_rtt_ns;
	struct mos_direction_figures dir[2];
	char community_id[32];
	char client[64], server[64];
	uint16_t client_port, server_port;
	uint8_t client_state, server_state;
	uint8_t end_reason;
	uint8_t midstream;
};

int mos_getfigures(struct mos_context *ctx, int64_t sock, struct mos_flow_figures *figures);

/*
 * Rows: one per flow when its record leaves the table, as JSON (docs/flows.md) or as a line of
 * text.  `hash` adds the SHA-256 of the delivered stream of each direction; then every stream is
 * reassembled.  Set up before the loop runs.  mos_rows() gives what gathered since the last call
 * (valid until the next call on the context) and its length.
 */
int mos_rows_enable(struct mos_context *ctx, int json, int hash);
const char *mos_rows(struct mos_context *ctx, size_t *len);

const char *mos_end_reason_name(int reason);
const char *mos_segment_class_name(int segment_class);
const char *mos_tcp_state_name(int state);

/* ---- diagnosis -------------------------------------------------------------------------- */

const char *mos_version(void);
const char *mos_dpdk_version(void);
/* Start DPDK's EAL (once per process); 0 or -errno with a sentence in err. */
int mos_eal_start(char *err, size_t errlen);
/* Objects alive in the whole process: flows, pages, ranges, mbufs; all 0 after a clean end. */
struct mos_live_objects {
	uint64_t contexts, flows, pages, ranges, tables, mbufs;
};
void mos_live(struct mos_live_objects *live);
