/*
 * flow.h - the record of one connection.
 *
 * Five cache lines for a quiet flow: nobody reads its bytes, nothing unusual happened.  Whatever
 * is rare - classes, gaps, holes, streams, user contexts - lives in struct flow_cold, made on
 * first use.
 *
 * `half[s]` is the direction whose sender is side s (0 client, 1 server): what s has sent, and
 * what its peer has acknowledged of that.  Numbers named *_rel or snd_* are rel numbers (seq.h).
 * Units: ns, bytes, host order.  Ownership: the flow table owns flows; a flow owns its cold
 * record and one reference on its watch set.
 */
#ifndef MOS_FLOW_FLOW_H
#define MOS_FLOW_FLOW_H

#include "../mos.h"
#include "../tcp/ranges.h"
#include "flow_key.h"

struct stream;
struct watch_set;
struct flow_reader;
struct held_syn;

enum {
	FLOW_NONE = UINT32_MAX
};
#define NOT_MEASURED UINT64_MAX

enum half_flag {
	HALF_SYN = 0x01,        /* a SYN or SYN/ACK of this side was seen: isn is exact */
	HALF_KNOWN = 0x02,      /* isn is set, from a SYN or from later evidence */
	HALF_FIN = 0x04,        /* a FIN was seen: it is number snd_max - 1 */
	HALF_FIN_TAKEN = 0x08,  /* the peer's stack has processed it */
	HALF_SACK = 0x10,       /* SACK permitted was offered */
	HALF_TIMESTAMPS = 0x20, /* timestamps were offered */
	HALF_ACKED = 0x40,      /* this side has sent an ACK */
	HALF_PROBED = 0x80      /* its last segment was a keep-alive or a zero-window probe */
};

/* What side s sent. */
struct flow_half {
	int64_t snd_max; /* one past the highest number seen; written by tcp_sender */
	int64_t snd_una; /* highest acknowledgement of the peer; may pass snd_max */
	uint64_t packets;
	uint64_t wire_bytes;
	uint64_t payload_bytes;
	uint64_t rtt_sum_ns;
	uint64_t rtt_min_ns;
	uint64_t rtt_max_ns;
	uint64_t rtt_sample_ns; /* when the running sample was sent, plus 1; 0 = none runs */
	uint32_t isn;
	uint32_t rtt_sample_end; /* low 32 bits of the sample's end */
	uint32_t rtt_count;
	uint32_t max_window;   /* largest window this side advertised, scaled */
	uint32_t ts_recent;    /* last timestamp value accepted from this side */
	uint16_t window;       /* last window it advertised, raw */
	uint16_t mss;          /* 0 = not offered */
	uint8_t state;         /* enum mos_tcp_state of this side */
	uint8_t flags;         /* enum half_flag */
	uint8_t wscale;        /* shift it offered; WSCALE_NONE = not offered */
	uint8_t dup_acks;      /* of the peer, for the current snd_una */
	uint8_t syn, fin, rst; /* low octets of the counts; carries go to cold */
	uint8_t md5;           /* its SYN carried an MD5 signature (RFC 2385) */
};

enum {
	WSCALE_NONE = 255
};

enum flow_flag {
	FLOW_CLIENT_HI = 0x01, /* the client is the key's second endpoint */
	FLOW_MIDSTREAM = 0x02,
	FLOW_ENDED = 0x04,          /* CONN_END is done; the record lingers */
	FLOW_RST_SEEN = 0x08,       /* a valid RST ended it */
	FLOW_ENDING = 0x10,         /* CONN_END is being delivered */
	FLOW_HANDSHAKE_RUNS = 0x40, /* handshake_rtt_ns holds the time of the last SYN */
	FLOW_HANDSHAKE_DONE = 0x80  /* handshake_rtt_ns is measured */
};

/* Counts of unusual segments of one direction, and its holes. */
struct half_cold {
	struct ranges holes;
	struct ranges below_holes; /* of the bytes below the first number of a midstream flow */
	int64_t below;             /* how far those reach down: lowest number = 1 - below */
	int64_t rcv_nxt;           /* contiguous edge of the peer, skipped gaps included; used with HOLES */
	int64_t refused_end;       /* bytes seen that the peer did not take end here; 0 = none */
	uint64_t seg_class[MOS_SEG_CLASSES];
	uint64_t duplicate_ack;
	uint64_t zero_window;
	uint64_t gaps, gap_bytes;
	uint64_t cut_bytes;               /* seen but not captured (snap length), or given up at the cap on holes */
	int64_t forgot_start, forgot_end; /* holes given up at the cap lie in here; end 0 = none */
	uint64_t syn_hi, fin_hi, rst_hi;
	uint64_t hold_ns;      /* the first hole was acknowledged at this time; 0 = not */
	uint64_t hold_packets; /* the flow's packets then */
	int64_t hold_una;      /* what was acknowledged then */
	bool syn_data;         /* the SYN carried data that is not acknowledged yet */
	bool probe;            /* number snd_max was sent into a closed window, and counts as seen */
	bool probe_taken;      /* the peer acknowledged it: the byte belongs to the stream */
	uint8_t probe_byte;
	struct stream *stream; /* bytes received by the peer; NULL = not read */
	void *digest;          /* of the delivered bytes, if rows with hashes are wanted */
};

struct flow_cold {
	struct half_cold half[2];
	struct held_syn *held;      /* a SYN on the established connection, until it is answered */
	struct flow_reader *reader; /* one per socket of the watch set, or NULL */
	uint32_t readers;
};

struct flow {
	/* line 0: looked at for every packet */
	struct flow_key key;
	uint32_t number; /* index in the table */
	struct watch_set *set;
	uint64_t last_ns; /* time of the latest packet */
	/* lines 1 to 4 */
	struct flow_half half[2];
	struct flow_cold *cold;
	uint64_t first_ns;
	uint64_t handshake_rtt_ns;
	uint64_t serial;     /* flow_id: 1, 2, ... in order of creation */
	uint32_t next, prev; /* in a slot of the timer wheel */
	uint32_t generation; /* part of the flow's socket ids */
	uint8_t flags;       /* enum flow_flag */
	uint8_t end_reason;  /* enum mos_end_reason */
	uint8_t spare[2];
};

_Static_assert(sizeof(struct flow) == 320, "a quiet flow is five cache lines");

static inline int flow_side_of(const struct flow *flow, bool from_hi)
{
	return from_hi == ((flow->flags & FLOW_CLIENT_HI) != 0) ? MOS_SIDE_CLI : MOS_SIDE_SVR;
}

static inline bool half_has_holes(const struct flow *flow, int side)
{
	return flow->cold && flow->cold->half[side].holes.count;
}

/* The peer's next expected number: everything below it was seen, or given up. */
static inline int64_t half_rcv_nxt(const struct flow *flow, int side)
{
	return half_has_holes(flow, side) ? flow->cold->half[side].rcv_nxt : flow->half[side].snd_max;
}

/* Window the side advertised last, in bytes (RFC 7323 2.2: the shift needs both SYNs). */
static inline uint32_t half_window_shift(const struct flow *flow, int side)
{
	uint8_t own = flow->half[side].wscale, other = flow->half[!side].wscale;

	return own == WSCALE_NONE || other == WSCALE_NONE ? 0 : own;
}

/* The cold record, made if need be; NULL when memory is out. */
struct flow_cold *flow_cold(struct flow *flow);
/* Frees holes and the record itself; streams and readers must be gone already. */
void flow_cold_free(struct flow *flow);

#endif
