/*
 * talk.h - conversations for the TCP tests: one flow, and segments given by numbers relative to
 * their sender's ISN (the SYN is 0, the first byte 1), run through the two emulated stacks as the
 * pipeline does.
 *
 * TALK(name) { ... } is a test whose body runs once for each pair of ISNs, so that the sequence
 * numbers wrap at every position of the first few hundred numbers.
 */
#ifndef MOS_TESTS_TALK_H
#define MOS_TESTS_TALK_H

#include "check.h"
#include "live.h"
#include "tcp/seq.h"
#include "tcp/tcp_judge.h"
#include "tcp/tcp_receiver.h"
#include "tcp/tcp_sender.h"
#include "tcp/tcp_state.h"

enum {
	CLI = MOS_SIDE_CLI,
	SVR = MOS_SIDE_SVR,
	SYN = TCP_SYN,
	ACK = TCP_ACK,
	FIN = TCP_FIN,
	RST = TCP_RST,
	CLOSED_WINDOW = -1,
	WRAPS = 450 /* ISNs are 0, -1, ... -WRAPS */
};

#define MS UINT64_C(1000000)

/* One segment; window 0 means 65535, CLOSED_WINDOW means 0. */
struct said {
	int side;
	unsigned flags;
	int64_t seq;
	uint32_t len;
	int64_t ack;
	int window;
	const char *options;
	uint32_t options_len;
	uint32_t cut; /* bytes of the payload that were not captured */
};

static struct flow flow;
static struct segment s;        /* the last segment, after all updates */
static uint8_t after_sender[2]; /* states between the two updates */
static uint32_t isn[2];
static uint64_t now_ns;

static inline void flow_begin(void)
{
	flow = (struct flow){0};
	flow.half[0].wscale = flow.half[1].wscale = WSCALE_NONE;
	flow.half[CLI].state = MOS_TCP_CLOSED;
	flow.half[SVR].state = MOS_TCP_LISTEN;
	now_ns = 1000 * MS;
	flow.first_ns = flow.last_ns = now_ns;
}

static inline void flow_over(void)
{
	flow_cold_free(&flow);
	CHECK_EQ(live_objects.ranges, 0);
}

static inline void at(uint64_t ms)
{
	now_ns = (1000 + ms) * MS;
}

/* Run a segment through both stacks. */
static inline const struct segment *say(struct said said)
{
	static uint8_t frame[128];
	static struct mos_pkt pkt;

	memset(frame, 'x', sizeof frame);
	if (said.options_len)
		memcpy(frame + 20, said.options, said.options_len);
	pkt = (struct mos_pkt){
		.frame = frame,
		.time_ns = now_ns,
		.caplen = 20 + said.options_len + said.len - said.cut,
		.wirelen = 20 + said.options_len + said.len,
		.kind = PKT_TCP,
		.payload_off = 20 + said.options_len,
		.payload_len = said.len,
		.payload_cap = said.len - said.cut,
		.tcp_opt_len = (uint8_t)said.options_len,
		.flags = (uint8_t)said.flags,
		.seq = isn[said.side] + (uint32_t)said.seq,
		.ack = said.flags & ACK ? isn[!said.side] + (uint32_t)said.ack : 0,
		.window = (uint16_t)(said.window == CLOSED_WINDOW ? 0
	                             : said.window                ? said.window
	                                                          : 65535),
	};
	s = (struct segment){.flow = &flow, .pkt = &pkt, .now_ns = now_ns, .side = said.side};
	tcp_count(&flow, said.side, &pkt);
	tcp_judge(&s);
	if (now_ns > flow.last_ns)
		flow.last_ns = now_ns;
	tcp_sender_update(&s);
	after_sender[0] = flow.half[0].state;
	after_sender[1] = flow.half[1].state;
	tcp_receiver_update(&s);
	return &s;
}

/* The most frequent segment. */
static inline void data(int side, int64_t seq, uint32_t len, int64_t ack)
{
	say((struct said){.side = side, .flags = ACK, .seq = seq, .len = len, .ack = ack});
}

static inline void handshake(void)
{
	at(0);
	say((struct said){CLI, SYN, .seq = 0});
	at(10);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	at(15);
	data(CLI, 1, 0, 1);
}

static inline void check_states(int client, int server)
{
	CHECK_STR(tcp_state_name(flow.half[CLI].state), tcp_state_name(client));
	CHECK_STR(tcp_state_name(flow.half[SVR].state), tcp_state_name(server));
}

static inline void check_taken(void)
{
	CHECK(s.accepted);
	CHECK_EQ(s.errors, 0);
}

/* The segment is refused by its receiver, for one reason. */
static inline void check_refused(int reason)
{
	CHECK(!s.accepted);
	CHECK_EQ(s.errors, 1);
	CHECK_EQ(s.error[0].reason, reason);
	CHECK_EQ(s.error[0].side, !s.side);
}

static inline void check_class(int seg_class, bool rexmit)
{
	CHECK_EQ(s.seg_class, seg_class);
	CHECK_EQ(s.rexmit, rexmit);
}

static inline uint64_t class_count(int side, int seg_class)
{
	return flow.cold ? flow.cold->half[side].seg_class[seg_class] : 0;
}

static inline void talk_everywhere(void (*talk)(void))
{
	for (uint32_t back = 0; back <= WRAPS; back++) {
		isn[CLI] = 0u - back;
		isn[SVR] = 0u - back * 7 % WRAPS + (back & 1 ? 0x80000000u : 0);
		flow_begin();
		talk();
		flow_over();
		if (check_failures) {
			printf("(ISNs %u and %u)\n", isn[CLI], isn[SVR]);
			return;
		}
	}
}

#define TALK(name)                            \
	static void talk_##name(void);        \
	TEST(name)                            \
	{                                     \
		talk_everywhere(talk_##name); \
	}                                     \
	static void talk_##name(void)

#endif
