/* test_tcp_track.c - the two emulated stacks, segment by segment, without packets or buffers. */
// sources: tcp/tcp_judge.c tcp/tcp_sender.c tcp/tcp_receiver.c tcp/rexmit.c tcp/tcp_state.c tcp/tcp_opts.c
// sources: tcp/ranges.c flow/flow_table.c flow/flow_key.c live.c
#include <stdlib.h>

#include "random.h"
#include "talk.h"

/* ---- opening -------------------------------------------------------------------------------------------------- */

TALK(three_way_handshake)
{
	at(0);
	say((struct said){CLI, SYN, .seq = 0});
	check_taken();
	CHECK_EQ(after_sender[CLI], MOS_TCP_SYN_SENT);
	CHECK_EQ(after_sender[SVR], MOS_TCP_LISTEN);
	check_states(MOS_TCP_SYN_SENT, MOS_TCP_SYN_RCVD);
	CHECK_EQ(s.changed, 3);
	check_class(MOS_SEG_NORMAL, false);
	at(10);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	check_taken();
	CHECK_EQ(after_sender[CLI], MOS_TCP_SYN_SENT);
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_SYN_RCVD);
	CHECK_EQ(s.changed, 1 << CLI);
	at(15);
	data(CLI, 1, 0, 1);
	check_taken();
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
	CHECK_EQ(s.changed, 1 << SVR);
	check_class(MOS_SEG_NORMAL, false);
	CHECK_EQ(flow.half[CLI].isn, isn[CLI]);
	CHECK_EQ(flow.half[SVR].isn, isn[SVR]);
	CHECK_EQ(flow.half[CLI].snd_max, 1);
	CHECK_EQ(flow.half[SVR].snd_max, 1);
	CHECK_EQ(flow.handshake_rtt_ns, 15 * MS);
	CHECK(flow.flags & FLOW_HANDSHAKE_DONE);
	CHECK_EQ(flow.half[CLI].rtt_min_ns, 10 * MS);
	CHECK_EQ(flow.half[SVR].rtt_min_ns, 5 * MS);
	CHECK(flow.cold == NULL); /* nothing unusual happened */
}

TALK(options_of_the_handshake)
{
	say((struct said){CLI, SYN, .seq = 0,
	                  .options = "\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\1\0\0\0\0\x01\x03\x03\x0f",
	                  .options_len = 20});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1, .options = "\x02\x04\x02\x18\x01\x03\x03\x07",
	                  .options_len = 8});
	CHECK_EQ(flow.half[CLI].mss, 1460);
	CHECK_EQ(flow.half[CLI].wscale, 14); /* RFC 7323 2.3: above 14 means 14 */
	CHECK(flow.half[CLI].flags & HALF_SACK);
	CHECK(flow.half[CLI].flags & HALF_TIMESTAMPS);
	CHECK_EQ(flow.half[SVR].mss, 536);
	CHECK_EQ(flow.half[SVR].wscale, 7);
	CHECK(!(flow.half[SVR].flags & (HALF_SACK | HALF_TIMESTAMPS)));
	CHECK_EQ(flow.half[CLI].max_window, 65535); /* a SYN's window is not scaled */
	say((struct said){CLI, ACK, .seq = 1, .ack = 1, .window = 10});
	CHECK_EQ(flow.half[CLI].max_window, 10 << 14);
	say((struct said){SVR, ACK, .seq = 1, .ack = 1, .window = 1000});
	CHECK_EQ(flow.half[SVR].max_window, 1000 << 7);
}

TALK(one_sided_window_scale_is_none)
{
	say((struct said){CLI, SYN, .seq = 0, .options = "\x01\x03\x03\x07", .options_len = 4});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1, .window = 100});
	say((struct said){CLI, ACK, .seq = 1, .ack = 1, .window = 65535});
	say((struct said){SVR, ACK, .seq = 1, .ack = 1, .window = 200});
	CHECK_EQ(flow.half[CLI].max_window, 65535);
	CHECK_EQ(flow.half[SVR].max_window, 200);
}

TALK(syn_sent_again)
{
	at(0);
	say((struct said){CLI, SYN, .seq = 0});
	at(1000);
	say((struct said){CLI, SYN, .seq = 0});
	check_taken();
	check_class(MOS_SEG_RETRANSMISSION, true);
	check_states(MOS_TCP_SYN_SENT, MOS_TCP_SYN_RCVD);
	at(1020);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	CHECK_EQ(flow.half[CLI].rtt_count, 0); /* Karn: which SYN was answered? */
	at(1500);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	check_class(MOS_SEG_RETRANSMISSION, true);
	at(1510);
	data(CLI, 1, 0, 1);
	CHECK_EQ(flow.half[SVR].rtt_count, 0);
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
	CHECK_EQ(flow.half[CLI].syn, 2);
	CHECK_EQ(flow.half[SVR].syn, 2);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	check_class(MOS_SEG_SPURIOUS_RETRANSMISSION, true);
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
}

TALK(a_syn_ack_with_another_isn_replaces_the_first)
{
	say((struct said){CLI, SYN, .seq = 0});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	isn[SVR] += 123456;
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	check_taken();
	CHECK(s.syn_replaced);
	check_class(MOS_SEG_NORMAL, false);
	CHECK_EQ(flow.half[SVR].isn, isn[SVR]);
	data(CLI, 1, 0, 1);
	check_taken();
	data(SVR, 1, 100, 1);
	check_taken();
	check_class(MOS_SEG_NORMAL, false);
	CHECK_EQ(flow.half[SVR].snd_max, 101);
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
}

TALK(later_evidence_stands_in_for_the_syn_ack)
{
	say((struct said){CLI, SYN, .seq = 0});
	data(CLI, 1, 100, 1); /* the client must have got a SYN/ACK to say this */
	check_taken();
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
	data(SVR, 1, 50, 101);
	check_taken();
	CHECK_EQ(s.data, 1);
	CHECK_EQ(flow.half[SVR].snd_max, 51);
	CHECK_EQ(flow.half[CLI].snd_una, 101);
}

TALK(simultaneous_open)
{
	say((struct said){CLI, SYN, .seq = 0});
	say((struct said){SVR, SYN, .seq = 0});
	check_taken();
	CHECK_EQ(flow.half[CLI].state, MOS_TCP_SYN_RCVD);
	say((struct said){CLI, SYN | ACK, .seq = 0, .ack = 1});
	check_taken();
	CHECK_EQ(flow.half[SVR].state, MOS_TCP_ESTABLISHED);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	check_taken();
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
	data(CLI, 1, 10, 1);
	check_taken();
	check_class(MOS_SEG_NORMAL, false);
}

TALK(fast_open_data_in_the_syn)
{
	say((struct said){CLI, SYN, .seq = 0, .len = 50});
	check_taken();
	CHECK_EQ(s.data, 1);
	CHECK_EQ(flow.half[CLI].snd_max, 51);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 51});
	check_taken();
	CHECK_EQ(flow.half[CLI].snd_una, 51);
	data(SVR, 1, 20, 51); /* before the client's ACK */
	check_taken();
	CHECK_EQ(flow.half[SVR].state, MOS_TCP_SYN_RCVD);
	data(CLI, 51, 0, 21);
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
	CHECK_EQ(class_count(CLI, MOS_SEG_RETRANSMISSION), 0);
}

TALK(fast_open_data_refused_is_sent_again)
{
	say((struct said){CLI, SYN, .seq = 0, .len = 50});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	data(CLI, 1, 50, 1);
	check_taken();
	check_class(MOS_SEG_RETRANSMISSION, true);
}

TALK(answers_to_another_syn_are_refused)
{
	say((struct said){CLI, SYN, .seq = 0});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 0}); /* of what was never acceptable */
	check_refused(MOS_ERR_ACK_OUT_OF_WINDOW);
	CHECK_EQ(flow.half[CLI].state, MOS_TCP_SYN_SENT);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 900000});
	check_refused(MOS_ERR_ACK_OUT_OF_WINDOW);
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	check_taken();
	CHECK_EQ(flow.half[CLI].state, MOS_TCP_ESTABLISHED);
}

TALK(an_ack_of_nothing_does_not_establish)
{
	say((struct said){CLI, SYN, .seq = 0});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	data(CLI, 1, 0, 0);
	CHECK_EQ(flow.half[SVR].state, MOS_TCP_SYN_RCVD);
	data(CLI, 1, 0, 1);
	CHECK_EQ(flow.half[SVR].state, MOS_TCP_ESTABLISHED);
}

/* ---- classes of segments ---------------------------------------------------------------------------------------- */

TALK(data_sent_again_before_its_ack)
{
	handshake();
	data(CLI, 1, 100, 1);
	check_class(MOS_SEG_NORMAL, false);
	data(CLI, 1, 100, 1);
	check_taken();
	check_class(MOS_SEG_RETRANSMISSION, true);
	data(CLI, 51, 100, 1); /* partly new */
	check_class(MOS_SEG_RETRANSMISSION, true);
	CHECK_EQ(flow.half[CLI].snd_max, 151);
	data(CLI, 100, 1, 1); /* one old byte */
	check_class(MOS_SEG_RETRANSMISSION, true);
	data(CLI, 151, 100, 1);
	check_class(MOS_SEG_NORMAL, false);
	CHECK_EQ(class_count(CLI, MOS_SEG_RETRANSMISSION), 3);
	CHECK_EQ(class_count(SVR, MOS_SEG_RETRANSMISSION), 0);
}

TALK(data_sent_again_after_its_ack_is_spurious)
{
	handshake();
	data(CLI, 1, 100, 1);
	data(SVR, 1, 0, 101);
	data(CLI, 1, 100, 1);
	check_class(MOS_SEG_SPURIOUS_RETRANSMISSION, true);
	data(CLI, 51, 100, 1); /* not all of it is acknowledged */
	check_class(MOS_SEG_RETRANSMISSION, true);
}

TALK(two_duplicate_acks_make_it_fast)
{
	for (int repeats = 0; repeats < 4; repeats++) {
		flow_over();
		flow_begin();
		handshake();
		data(CLI, 1, 100, 1);
		data(CLI, 101, 100, 1);
		data(CLI, 201, 100, 1);
		data(SVR, 1, 0, 101);
		for (int i = 0; i < repeats; i++)
			data(SVR, 1, 0, 101);
		CHECK_EQ(flow.cold ? flow.cold->half[SVR].duplicate_ack : 0, repeats);
		data(CLI, 101, 100, 1);
		check_class(repeats < 2 ? MOS_SEG_RETRANSMISSION : MOS_SEG_FAST_RETRANSMISSION, true);
		data(CLI, 201, 100, 1); /* not what the ACK asks for */
		check_class(MOS_SEG_RETRANSMISSION, true);
	}
}

TALK(what_is_no_duplicate_ack)
{
	handshake();
	data(CLI, 1, 100, 1);
	data(CLI, 101, 100, 1);
	data(SVR, 1, 0, 101);
	say((struct said){SVR, ACK, .seq = 1, .ack = 101, .window = 5000});            /* a window update */
	say((struct said){SVR, ACK, .seq = 1, .ack = 101, .len = 10, .window = 5000}); /* it has data */
	say((struct said){SVR, ACK, .seq = 11, .ack = 201, .window = 5000});           /* it goes on */
	say((struct said){SVR, ACK, .seq = 11, .ack = 101, .window = 5000});           /* an old one */
	say((struct said){SVR, ACK | FIN, .seq = 11, .ack = 201, .window = 5000});
	CHECK(!flow.cold || flow.cold->half[SVR].duplicate_ack == 0);
}

TALK(a_filler_is_out_of_order_within_the_round_trip)
{
	handshake(); /* round trip: 15 ms */
	at(100);
	data(CLI, 101, 100, 1);
	check_taken();
	check_class(MOS_SEG_NORMAL, false);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 1);
	at(110);
	data(CLI, 1, 50, 1);
	check_class(MOS_SEG_OUT_OF_ORDER, false);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 51);
	at(160);
	data(CLI, 51, 50, 1);
	check_class(MOS_SEG_UNSEEN_RETRANSMISSION, false);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 201);
	data(CLI, 51, 50, 1);
	check_class(MOS_SEG_RETRANSMISSION, true);
}

/* Frames of several interfaces may be stamped a little out of order. */
TALK(a_filler_stamped_before_the_hole_is_out_of_order)
{
	handshake();
	at(100);
	data(CLI, 101, 100, 1);
	at(99);
	data(CLI, 1, 100, 1);
	check_class(MOS_SEG_OUT_OF_ORDER, false);
}

TALK(a_filler_with_one_seen_byte_is_a_retransmission)
{
	handshake();
	data(CLI, 1, 100, 1);
	data(CLI, 201, 100, 1);
	data(CLI, 100, 101, 1); /* byte 100 was seen */
	check_class(MOS_SEG_RETRANSMISSION, true);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 301);
	data(SVR, 1, 0, 301);
	CHECK_EQ(flow.half[CLI].snd_una, 301);
}

TALK(keep_alives)
{
	handshake();
	data(CLI, 1, 100, 1);
	data(SVR, 1, 0, 101);
	data(CLI, 100, 0, 1);
	check_taken();
	check_class(MOS_SEG_KEEP_ALIVE, false);
	data(SVR, 1, 0, 101); /* its answer is no duplicate */
	CHECK_EQ(flow.cold->half[SVR].duplicate_ack, 0);
	data(CLI, 100, 1, 1); /* with a garbage byte: a seen number */
	check_class(MOS_SEG_KEEP_ALIVE, true);
	data(SVR, 1, 0, 101);
	data(CLI, 101, 10, 1);
	check_class(MOS_SEG_NORMAL, false);
	CHECK_EQ(flow.half[CLI].snd_max, 111);
	CHECK_EQ(class_count(CLI, MOS_SEG_KEEP_ALIVE), 2);
}

TALK(zero_window_probes)
{
	handshake();
	data(CLI, 1, 100, 1);
	say((struct said){SVR, ACK, .seq = 1, .ack = 101, .window = CLOSED_WINDOW});
	CHECK_EQ(flow.cold->half[SVR].zero_window, 1);
	data(CLI, 101, 1, 1);
	check_taken();
	check_class(MOS_SEG_ZERO_WINDOW_PROBE, false); /* a first probe counts and fires nothing */
	say((struct said){SVR, ACK, .seq = 1, .ack = 101, .window = CLOSED_WINDOW});
	CHECK_EQ(flow.cold->half[SVR].duplicate_ack, 0);
	data(CLI, 101, 1, 1);
	check_class(MOS_SEG_ZERO_WINDOW_PROBE, true); /* the same number again */
	say((struct said){SVR, ACK, .seq = 1, .ack = 101, .window = 1000});
	data(CLI, 101, 100, 1);
	CHECK(s.rexmit);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 201);
	CHECK_EQ(class_count(CLI, MOS_SEG_ZERO_WINDOW_PROBE), 2);
	CHECK_EQ(flow.cold->half[SVR].zero_window, 2);
}

TALK(a_fin_sent_again)
{
	handshake();
	say((struct said){CLI, FIN | ACK, .seq = 1, .ack = 1});
	check_class(MOS_SEG_NORMAL, false);
	say((struct said){CLI, FIN | ACK, .seq = 1, .ack = 1});
	check_taken();
	check_class(MOS_SEG_RETRANSMISSION, true);
	CHECK_EQ(flow.half[CLI].fin, 2);
	CHECK_EQ(flow.half[CLI].snd_max, 2);
	data(SVR, 1, 0, 2);
	say((struct said){CLI, FIN | ACK, .seq = 1, .ack = 1});
	check_class(MOS_SEG_SPURIOUS_RETRANSMISSION, true);
	check_states(MOS_TCP_FIN_WAIT_2, MOS_TCP_CLOSE_WAIT);
}

/* ---- round trips --------------------------------------------------------------------------------------------------- */

TALK(one_running_sample)
{
	handshake();
	CHECK_EQ(flow.half[CLI].rtt_count, 1);
	at(100);
	data(CLI, 1, 100, 1);
	at(110);
	data(CLI, 101, 100, 1); /* one sample runs already */
	at(130);
	data(SVR, 1, 0, 51); /* not all of it */
	CHECK_EQ(flow.half[CLI].rtt_count, 1);
	at(140);
	data(SVR, 1, 0, 201);
	CHECK_EQ(flow.half[CLI].rtt_count, 2);
	CHECK_EQ(flow.half[CLI].rtt_max_ns, 40 * MS);
	CHECK_EQ(flow.half[CLI].rtt_min_ns, 10 * MS);
	CHECK_EQ(flow.half[CLI].rtt_sum_ns, 50 * MS);
	at(150);
	data(SVR, 1, 0, 201); /* nothing runs */
	CHECK_EQ(flow.half[CLI].rtt_count, 2);
	at(200);
	data(CLI, 201, 1, 1);
	at(201);
	data(SVR, 1, 100, 202); /* data may carry the ACK */
	CHECK_EQ(flow.half[CLI].rtt_min_ns, 1 * MS);
}

TALK(karn)
{
	handshake();
	at(100);
	data(CLI, 1, 100, 1);
	at(300);
	data(CLI, 1, 100, 1);
	at(310);
	data(SVR, 1, 0, 101);
	CHECK_EQ(flow.half[CLI].rtt_count, 1); /* the handshake's alone */
	at(400);
	data(CLI, 101, 100, 1);
	at(420);
	data(SVR, 1, 0, 201);
	CHECK_EQ(flow.half[CLI].rtt_count, 2);
	CHECK_EQ(flow.half[CLI].rtt_max_ns, 20 * MS);
}

/* Frames stamped out of order measure nothing, or zero, but never centuries. */
TALK(time_that_goes_back_measures_no_centuries)
{
	at(10);
	say((struct said){CLI, SYN, .seq = 0});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1});
	at(9);
	data(CLI, 1, 100, 1);
	CHECK(!(flow.flags & FLOW_HANDSHAKE_DONE) || flow.handshake_rtt_ns < 1000 * MS);
	CHECK(flow.half[SVR].rtt_max_ns < 1000 * MS);
	at(8);
	data(SVR, 1, 0, 101);
	CHECK(flow.half[CLI].rtt_max_ns < 1000 * MS);
}

/* ---- windows and acknowledgements ------------------------------------------------------------------------------------ */

TALK(the_window_ends_somewhere)
{
	handshake(); /* 65535 bytes, not scaled */
	data(CLI, 65535, 1, 1);
	check_taken();
	CHECK_EQ(flow.half[CLI].snd_max, 65536);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 1);
	data(CLI, 65536 + 65536, 100, 1);
	check_refused(MOS_ERR_OUT_OF_WINDOW);
	CHECK_EQ(s.error[0].at, 65536 + 65536);
	CHECK_EQ(s.error[0].length, 100);
	CHECK_EQ(flow.half[CLI].snd_max, 65536);
	CHECK_EQ(flow.half[CLI].packets, 4);
	CHECK_EQ(flow.half[CLI].payload_bytes, 101);
	data(CLI, 1, 100, 1);
	check_taken();
}

TALK(the_window_is_scaled)
{
	say((struct said){CLI, SYN, .seq = 0, .options = "\x01\x03\x03\x07", .options_len = 4});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1, .options = "\x01\x03\x03\x02", .options_len = 4});
	say((struct said){CLI, ACK, .seq = 1, .ack = 1, .window = 1000});
	say((struct said){SVR, ACK, .seq = 1, .ack = 1, .window = 50000});
	data(CLI, 200000, 1, 1); /* of 4 * 50000 */
	check_taken();
	data(CLI, 400000 + 200000, 1, 1);
	check_refused(MOS_ERR_OUT_OF_WINDOW);
	data(SVR, 100000, 1, 1); /* of 128 * 1000 */
	check_taken();
}

TALK(odd_acknowledgements)
{
	handshake();
	data(CLI, 1, 100, 1);
	data(SVR, 1, 10, 101 + 200000); /* far beyond all that was sent */
	check_refused(MOS_ERR_ACK_OUT_OF_WINDOW);
	CHECK_EQ(flow.half[CLI].snd_una, 1);
	CHECK_EQ(flow.half[SVR].snd_max, 1);
	data(SVR, 1, 10, 101);
	check_taken();
	data(SVR, 11, 10, 101 - 200000); /* older than any window */
	check_refused(MOS_ERR_ACK_OUT_OF_WINDOW);
	data(SVR, 11, 10, 51); /* late, but it may be */
	check_taken();
	CHECK_EQ(flow.half[CLI].snd_una, 101);
}

TALK(data_without_ack_flag_is_refused)
{
	handshake();
	say((struct said){CLI, 0, .seq = 1, .len = 10});
	check_refused(MOS_ERR_NO_ACK_FLAG);
	CHECK_EQ(flow.half[CLI].snd_max, 1);
}

TALK(a_syn_in_an_established_connection)
{
	handshake();
	data(CLI, 1, 100, 1);
	isn[CLI] += 5000;
	say((struct said){CLI, SYN, .seq = 0});
	check_refused(MOS_ERR_SYN_IN_WINDOW);
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
	isn[CLI] -= 5000;
	CHECK_EQ(flow.half[CLI].isn, isn[CLI]);
	data(CLI, 101, 100, 1);
	check_taken();
	check_class(MOS_SEG_NORMAL, false);
}

/* Its number was used for a byte before, but it is another connection's SYN and repeats nothing. */
TALK(a_refused_syn_is_no_retransmission)
{
	handshake();
	data(CLI, 1, 100, 1);
	isn[CLI] += 50;
	say((struct said){CLI, SYN, .seq = 0});
	check_refused(MOS_ERR_SYN_IN_WINDOW);
	check_class(MOS_SEG_NORMAL, false);
	isn[CLI] -= 50;
}

TALK(old_timestamps)
{
	static const char *ts[] = {"\x01\x01\x08\x0a\0\0\0\x64\0\0\0\0", "\x01\x01\x08\x0a\0\0\0\xc8\0\0\0\0",
	                           "\x01\x01\x08\x0a\0\0\0\x96\0\0\0\0"};

	say((struct said){CLI, SYN, .seq = 0, .options = ts[0], .options_len = 12});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1, .options = ts[0], .options_len = 12});
	say((struct said){CLI, ACK, .seq = 1, .ack = 1, .options = ts[0], .options_len = 12});
	say((struct said){CLI, ACK, .seq = 1, .len = 100, .ack = 1, .options = ts[1], .options_len = 12});
	check_taken();
	say((struct said){SVR, ACK, .seq = 1, .ack = 101, .options = ts[0], .options_len = 12});
	check_taken();
	say((struct said){CLI, ACK, .seq = 101, .len = 100, .ack = 1, .options = ts[2], .options_len = 12});
	check_refused(MOS_ERR_OLD_TIMESTAMP);
	CHECK_EQ(flow.half[CLI].snd_max, 101);
	say((struct said){CLI, ACK, .seq = 101, .len = 100, .ack = 1, .options = ts[1], .options_len = 12});
	check_taken();
	say((struct said){CLI, ACK, .seq = 101, .len = 100, .ack = 1, .options = ts[2], .options_len = 12});
	check_class(MOS_SEG_RETRANSMISSION, true);
}

/* RFC 7323 4.3: a segment beyond the next one expected does not move the remembered timestamp. */
TALK(timestamps_of_reordered_segments)
{
	static const char *ts[] = {"\x01\x01\x08\x0a\0\0\0\x64\0\0\0\0", "\x01\x01\x08\x0a\0\0\0\xc8\0\0\0\0",
	                           "\x01\x01\x08\x0a\0\0\0\x96\0\0\0\0"};

	say((struct said){CLI, SYN, .seq = 0, .options = ts[0], .options_len = 12});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1, .options = ts[0], .options_len = 12});
	say((struct said){CLI, ACK, .seq = 101, .len = 100, .ack = 1, .options = ts[1], .options_len = 12});
	check_taken();
	say((struct said){CLI, ACK, .seq = 1, .len = 100, .ack = 1, .options = ts[2], .options_len = 12});
	check_taken();
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 201);
}

/* RFC 7323 5.5: after 24 days of silence a smaller timestamp may be a wrapped one. */
TALK(a_timestamp_that_had_time_to_wrap)
{
	static const char *ts[] = {"\x01\x01\x08\x0a\x40\0\0\x64\0\0\0\0", "\x01\x01\x08\x0a\0\0\0\x64\0\0\0\0"};

	say((struct said){CLI, SYN, .seq = 0, .options = ts[0], .options_len = 12});
	say((struct said){SVR, SYN | ACK, .seq = 0, .ack = 1, .options = ts[0], .options_len = 12});
	say((struct said){CLI, ACK, .seq = 1, .len = 10, .ack = 1, .options = ts[0], .options_len = 12});
	say((struct said){SVR, ACK, .seq = 1, .ack = 11, .options = ts[0], .options_len = 12});
	at(25ull * 86400 * 1000);
	say((struct said){CLI, ACK, .seq = 11, .len = 10, .ack = 1, .options = ts[1], .options_len = 12});
	check_taken();
}

/* ---- RST ------------------------------------------------------------------------------------------------------------- */

TALK(a_syn_refused_with_rst)
{
	say((struct said){CLI, SYN, .seq = 0});
	isn[SVR] = 0; /* a closed port answers with sequence number 0 */
	say((struct said){SVR, RST | ACK, .seq = 0, .ack = 1});
	check_taken();
	check_states(MOS_TCP_CLOSED, MOS_TCP_CLOSED);
	CHECK_EQ(flow.half[SVR].rst, 1);
}

TALK(a_syn_refused_with_the_wrong_ack)
{
	say((struct said){CLI, SYN, .seq = 0});
	say((struct said){SVR, RST | ACK, .seq = 0, .ack = 7});
	check_refused(MOS_ERR_RST_OUT_OF_WINDOW);
	check_states(MOS_TCP_SYN_SENT, MOS_TCP_SYN_RCVD);
}

TALK(rst_in_the_window)
{
	handshake();
	data(CLI, 1, 100, 1);
	say((struct said){CLI, RST, .seq = 101});
	check_taken();
	check_states(MOS_TCP_CLOSED, MOS_TCP_CLOSED);
	check_class(MOS_SEG_NORMAL, false);
	CHECK_EQ(flow.half[CLI].snd_max, 101);
	CHECK_EQ(after_sender[SVR], MOS_TCP_ESTABLISHED);
}

TALK(rst_out_of_the_window)
{
	static const int64_t seqs[] = {101 + 65536, 101 + 10000000, -200000, 50};

	for (size_t i = 0; i < 4; i++) {
		flow_over();
		flow_begin();
		handshake();
		data(CLI, 1, 100, 1);
		data(SVR, 1, 0, 101);
		say((struct said){CLI, RST, .seq = seqs[i]});
		check_refused(MOS_ERR_RST_OUT_OF_WINDOW);
		check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
		data(CLI, 101, 10, 1);
		check_taken();
	}
}

TALK(rst_behind_a_hole_counts)
{
	handshake();
	data(CLI, 201, 100, 1); /* the receiver waits at 1 */
	say((struct said){CLI, RST, .seq = 301});
	check_taken();
	check_states(MOS_TCP_CLOSED, MOS_TCP_CLOSED);
}

/* ---- holes and gaps ---------------------------------------------------------------------------------------------------- */

static bool skip(int side, bool at_once, int64_t *gap, uint64_t *missing)
{
	*gap = -1;
	*missing = 0;
	return tcp_skip_gap(&flow, side, now_ns, at_once, gap, missing);
}

TALK(an_unacknowledged_hole_is_never_skipped)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	data(CLI, 1, 100, 1);
	data(CLI, 201, 100, 1);
	data(SVR, 1, 0, 101);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 101);
	at(100000);
	CHECK(!skip(CLI, false, &gap, &missing));
	CHECK(!skip(CLI, true, &gap, &missing));
	CHECK_EQ(flow.cold->half[CLI].gaps, 0);
}

TALK(an_acknowledged_hole_is_skipped_after_a_while)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	data(CLI, 1, 100, 1);
	data(CLI, 201, 100, 1);
	at(100);
	data(SVR, 1, 0, 301);
	CHECK(!skip(CLI, false, &gap, &missing));
	at(199);
	CHECK(!skip(CLI, false, &gap, &missing));
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 101);
	at(201);
	REQUIRE(skip(CLI, false, &gap, &missing));
	CHECK_EQ(gap, 101);
	CHECK_EQ(missing, 100);
	CHECK(!skip(CLI, false, &gap, &missing));
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 301);
	CHECK_EQ(flow.cold->half[CLI].gaps, 1);
	CHECK_EQ(flow.cold->half[CLI].gap_bytes, 100);
	data(CLI, 301, 100, 1);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 401);
}

TALK(an_acknowledged_hole_is_skipped_after_some_packets)
{
	int64_t gap;
	uint64_t missing;
	int waited = 0;

	handshake();
	data(CLI, 101, 100, 1);
	data(SVR, 1, 0, 201);
	while (waited < 1000 && !skip(CLI, false, &gap, &missing)) {
		data(CLI, 201 + waited, 1, 1);
		waited++;
	}
	CHECK_EQ(waited, GAP_HOLD_PACKETS);
	CHECK_EQ(gap, 1);
	CHECK_EQ(missing, 100);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 201 + waited);
}

TALK(packets_of_both_sides_count_for_the_wait)
{
	int64_t gap;
	uint64_t missing;
	int waited = 0;

	handshake();
	data(CLI, 101, 100, 1);
	data(SVR, 1, 0, 201);
	while (waited < 1000 && !skip(CLI, false, &gap, &missing)) {
		data(waited & 1, waited & 1 ? 1 : 201, 0, waited & 1 ? 201 : 1);
		waited++;
	}
	CHECK_EQ(waited, GAP_HOLD_PACKETS);
}

/* A hole that is acknowledged while another one is waited for has its own time. */
TALK(every_acknowledgement_has_its_own_wait)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	data(CLI, 101, 100, 1);
	data(CLI, 301, 100, 1);
	at(100);
	data(SVR, 1, 0, 201);
	CHECK(!skip(CLI, false, &gap, &missing));
	at(190);
	data(SVR, 1, 0, 401);
	CHECK(!skip(CLI, false, &gap, &missing));
	at(205);
	REQUIRE(skip(CLI, false, &gap, &missing));
	CHECK_EQ(gap, 1);
	CHECK_EQ(missing, 100);
	CHECK(!skip(CLI, false, &gap, &missing));
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 201);
	at(400);
	REQUIRE(skip(CLI, false, &gap, &missing));
	CHECK_EQ(gap, 201);
	CHECK_EQ(missing, 100);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 401);
}

TALK(an_ack_captured_before_its_data_makes_no_gap)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	data(CLI, 101, 100, 1);
	data(SVR, 1, 0, 201);
	CHECK(!skip(CLI, false, &gap, &missing));
	at(20);
	data(CLI, 1, 100, 1);
	check_class(MOS_SEG_OUT_OF_ORDER, false);
	at(1000);
	CHECK(!skip(CLI, false, &gap, &missing));
	CHECK(!skip(CLI, true, &gap, &missing));
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 201);
	CHECK_EQ(flow.cold->half[CLI].gaps, 0);
}

/* The wait may not end because a frame is stamped a little before the one in front of it. */
TALK(time_that_goes_back_does_not_end_the_wait)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	at(50);
	data(CLI, 101, 100, 1);
	data(SVR, 1, 0, 201);
	CHECK(!skip(CLI, false, &gap, &missing));
	at(49);
	CHECK(!skip(CLI, false, &gap, &missing));
	CHECK_EQ(flow.cold->half[CLI].gaps, 0);
}

TALK(only_what_was_acknowledged_is_skipped)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	data(CLI, 201, 100, 1);
	data(SVR, 1, 0, 51); /* the receiver has 50 of the bytes we missed */
	CHECK(!skip(CLI, false, &gap, &missing));
	at(200);
	REQUIRE(skip(CLI, false, &gap, &missing));
	CHECK_EQ(gap, 1);
	CHECK_EQ(missing, 50);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 51);
	CHECK(!skip(CLI, true, &gap, &missing));
	data(CLI, 51, 150, 1);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 301);
}

TALK(at_the_end_acknowledged_holes_are_skipped_at_once)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	data(CLI, 11, 10, 1);
	data(CLI, 31, 10, 1);
	data(CLI, 51, 10, 1);
	data(SVR, 1, 0, 41);
	REQUIRE(skip(CLI, true, &gap, &missing));
	CHECK_EQ(gap, 1);
	CHECK_EQ(missing, 10);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 21);
	REQUIRE(skip(CLI, true, &gap, &missing));
	CHECK_EQ(gap, 21);
	CHECK_EQ(missing, 10);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 41);
	CHECK(!skip(CLI, true, &gap, &missing)); /* [41, 51) was never acknowledged */
	CHECK_EQ(flow.cold->half[CLI].gaps, 2);
	CHECK_EQ(flow.cold->half[CLI].gap_bytes, 20);
}

TALK(a_skipped_hole_may_be_filled_later)
{
	int64_t gap;
	uint64_t missing;

	handshake();
	data(CLI, 101, 100, 1);
	data(SVR, 1, 0, 201);
	CHECK(!skip(CLI, false, &gap, &missing));
	at(500);
	CHECK(skip(CLI, false, &gap, &missing));
	data(CLI, 1, 100, 1);
	check_taken();
	check_class(MOS_SEG_UNSEEN_RETRANSMISSION, false);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 201);
	CHECK_EQ(flow.cold->half[CLI].gaps, 1);
}

TALK(bytes_cut_by_the_snap_length_are_a_gap)
{
	handshake();
	say((struct said){CLI, ACK, .seq = 1, .len = 100, .ack = 1, .cut = 60});
	check_taken();
	REQUIRE(flow.cold != NULL);
	CHECK_EQ(flow.cold->half[CLI].cut_bytes, 60);
	CHECK_EQ(flow.cold->half[CLI].gap_bytes, 60);
	CHECK_EQ(flow.half[CLI].snd_max, 101);
	CHECK_EQ(flow.half[CLI].payload_bytes, 100);
	say((struct said){CLI, ACK, .seq = 1, .len = 100, .ack = 1, .cut = 60});
	check_class(MOS_SEG_RETRANSMISSION, true);
	CHECK_EQ(flow.cold->half[CLI].cut_bytes, 60); /* counted once */
}

TALK(cut_bytes_of_a_filler_count_where_they_were_missing)
{
	handshake();
	data(CLI, 101, 100, 1);
	say((struct said){CLI, ACK, .seq = 51, .len = 100, .ack = 1,
	                  .cut = 80}); /* cut from 71 on; from 101 on it is there */
	CHECK_EQ(flow.cold->half[CLI].cut_bytes, 30);
	say((struct said){CLI, ACK, .seq = 151, .len = 100, .ack = 1, .cut = 100}); /* the last 50 are new */
	CHECK_EQ(flow.cold->half[CLI].cut_bytes, 80);
	CHECK_EQ(flow.half[CLI].snd_max, 251);
}

/* ---- closing ---------------------------------------------------------------------------------------------------------------- */

TALK(close_one_after_the_other)
{
	handshake();
	say((struct said){CLI, FIN | ACK, .seq = 1, .len = 10, .ack = 1});
	CHECK_EQ(after_sender[SVR], MOS_TCP_ESTABLISHED);
	check_states(MOS_TCP_FIN_WAIT_1, MOS_TCP_CLOSE_WAIT);
	CHECK_EQ(flow.half[CLI].snd_max, 12);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 11); /* the FIN is no byte */
	data(SVR, 1, 0, 12);
	check_states(MOS_TCP_FIN_WAIT_2, MOS_TCP_CLOSE_WAIT);
	data(SVR, 1, 100, 12); /* half-closed: the server goes on */
	check_taken();
	data(CLI, 12, 0, 101);
	say((struct said){SVR, FIN | ACK, .seq = 101, .ack = 12});
	check_states(MOS_TCP_TIME_WAIT, MOS_TCP_LAST_ACK);
	data(CLI, 12, 0, 102);
	check_states(MOS_TCP_TIME_WAIT, MOS_TCP_CLOSED);
}

TALK(close_at_the_same_time)
{
	handshake();
	say((struct said){CLI, FIN | ACK, .seq = 1, .ack = 1});
	say((struct said){SVR, FIN | ACK, .seq = 1, .ack = 1}); /* sent before the client's FIN came */
	check_taken();
	check_states(MOS_TCP_CLOSING, MOS_TCP_CLOSING);
	data(CLI, 2, 0, 2);
	CHECK_EQ(flow.half[SVR].state, MOS_TCP_TIME_WAIT);
	data(SVR, 2, 0, 2);
	check_states(MOS_TCP_TIME_WAIT, MOS_TCP_TIME_WAIT);
}

TALK(close_in_three_segments)
{
	handshake();
	say((struct said){SVR, FIN | ACK, .seq = 1, .ack = 1});
	check_states(MOS_TCP_CLOSE_WAIT, MOS_TCP_FIN_WAIT_1);
	say((struct said){CLI, FIN | ACK, .seq = 1, .ack = 2});
	check_states(MOS_TCP_LAST_ACK, MOS_TCP_TIME_WAIT);
	data(SVR, 2, 0, 2);
	check_states(MOS_TCP_CLOSED, MOS_TCP_TIME_WAIT);
}

TALK(a_fin_waits_for_its_data)
{
	handshake();
	say((struct said){CLI, FIN | ACK, .seq = 101, .len = 50, .ack = 1});
	check_taken();
	check_states(MOS_TCP_FIN_WAIT_1, MOS_TCP_ESTABLISHED);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 1);
	data(CLI, 1, 60, 1);
	check_states(MOS_TCP_FIN_WAIT_1, MOS_TCP_ESTABLISHED);
	data(CLI, 61, 40, 1);
	check_taken();
	check_states(MOS_TCP_FIN_WAIT_1, MOS_TCP_CLOSE_WAIT);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), 151);
	data(SVR, 1, 0, 152);
	check_states(MOS_TCP_FIN_WAIT_2, MOS_TCP_CLOSE_WAIT);
}

TALK(an_acknowledged_fin_was_taken_whatever_we_missed)
{
	handshake();
	say((struct said){CLI, FIN | ACK, .seq = 101, .ack = 1});
	check_states(MOS_TCP_FIN_WAIT_1, MOS_TCP_ESTABLISHED);
	data(SVR, 1, 0, 102);
	check_states(MOS_TCP_FIN_WAIT_2, MOS_TCP_CLOSE_WAIT);
}

TALK(nothing_comes_after_a_fin)
{
	handshake();
	say((struct said){CLI, FIN | ACK, .seq = 1, .ack = 1});
	data(CLI, 2, 10, 1);
	check_refused(MOS_ERR_DATA_BEYOND_FIN);
	CHECK_EQ(flow.half[CLI].snd_max, 2);
	data(CLI, 2, 0, 1);
	check_taken();
}

TALK(a_fin_below_the_data_is_refused)
{
	handshake();
	data(CLI, 1, 100, 1);
	say((struct said){CLI, FIN | ACK, .seq = 51, .ack = 1});
	check_refused(MOS_ERR_DATA_BEYOND_FIN);
	check_states(MOS_TCP_ESTABLISHED, MOS_TCP_ESTABLISHED);
}

/* ---- mid-stream ------------------------------------------------------------------------------------------------------------------ */

static void begin_midstream(void)
{
	flow.flags |= FLOW_MIDSTREAM;
	flow.half[CLI].state = flow.half[SVR].state = MOS_TCP_ESTABLISHED;
}

TALK(picked_up_in_the_middle)
{
	begin_midstream();
	data(CLI, 1000, 100, 5000);
	check_taken();
	CHECK_EQ(s.data, 1); /* the first number seen is the first byte */
	check_class(MOS_SEG_NORMAL, false);
	data(SVR, 5000, 10, 1100);
	check_taken();
	CHECK_EQ(s.data, 1);
	CHECK_EQ(s.ack_rel, 101);
	data(CLI, 1100, 100, 5010);
	check_taken();
	CHECK_EQ(s.data, 101);
	data(CLI, 900, 50, 5010); /* below the first number: counted, never seen before */
	check_taken();
	CHECK(!s.rexmit);
	data(CLI, 1000, 100, 5010);
	CHECK(s.rexmit);
}

/* What lies below the first number is no part of a hole above it. */
TALK(a_filler_below_the_first_number_with_a_hole_above)
{
	begin_midstream();
	at(0);
	data(CLI, 1000, 100, 5000);
	data(SVR, 5000, 10, 1100);
	at(1000);
	data(CLI, 1200, 100, 5010);
	data(CLI, 900, 50, 5010);
	check_class(MOS_SEG_UNSEEN_RETRANSMISSION, false);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), 101);
}

/* ---- far ----------------------------------------------------------------------------------------------------------------------------- */

TEST(nine_gigabytes_wrap_twice)
{
	const uint32_t size = 60000;
	int64_t sent = 1;

	isn[CLI] = 0xfffffff0;
	isn[SVR] = 5;
	flow_begin();
	handshake();
	for (int i = 0; i < 150000 && !check_failures; i++) {
		data(CLI, sent, size, 1);
		CHECK(s.accepted && !s.rexmit && s.seg_class == MOS_SEG_NORMAL);
		CHECK_EQ(s.data, sent);
		sent += size;
		data(SVR, 1, 0, sent);
		CHECK(s.accepted);
		CHECK_EQ(flow.half[CLI].snd_una, sent);
	}
	CHECK(sent > INT64_C(2) << 32);
	data(CLI, sent - size, size, 1);
	check_class(MOS_SEG_SPURIOUS_RETRANSMISSION, true);
	say((struct said){CLI, FIN | ACK, .seq = sent, .ack = 1});
	check_states(MOS_TCP_FIN_WAIT_1, MOS_TCP_CLOSE_WAIT);
	CHECK_EQ(flow.half[CLI].payload_bytes, (uint64_t)sent - 1 + size);
	flow_over();
}

/* ---- random segments, against one flag for every number --------------------------------------------------------------------------------- */

enum {
	NUMBERS = 6000
};

static uint8_t seen[NUMBERS];

static void check_model(int64_t top)
{
	int64_t edge = 1, missing = 0;

	while (edge < top && seen[edge])
		edge++;
	for (int64_t i = 1; i < top; i++)
		missing += !seen[i];
	CHECK_EQ(flow.half[CLI].snd_max, top);
	CHECK_EQ(half_rcv_nxt(&flow, CLI), edge);
	CHECK_EQ(tcp_readable_edge(&flow, CLI), edge);
	CHECK_EQ(flow.cold ? flow.cold->half[CLI].holes.bytes : 0, missing);
}

static void random_conversation(void)
{
	int64_t top = 1;

	handshake();
	memset(seen, 0, sizeof seen);
	while (top < NUMBERS - 500 && !check_failures) {
		int64_t from = random_chance(40) ? top : random_between(rel_max(1, top - 900), top + 200);
		int64_t len = random_between(2, 200), before = 0;

		for (int64_t i = from; i < from + len; i++) {
			before += seen[i];
			seen[i] = 1;
		}
		data(CLI, from, (uint32_t)len, 1);
		check_taken();
		CHECK_EQ(s.rexmit, before > 0);
		if (before)
			check_class(MOS_SEG_RETRANSMISSION, true);
		else if (from >= top)
			check_class(MOS_SEG_NORMAL, false);
		else
			CHECK(s.seg_class == MOS_SEG_OUT_OF_ORDER || s.seg_class == MOS_SEG_UNSEEN_RETRANSMISSION);
		top = rel_max(top, from + len);
		check_model(top);
	}
}

TEST(random_segments_agree_with_the_model)
{
	random_begin("tcp");
	for (int round = 0; round < 60 && !check_failures; round++) {
		isn[CLI] = random_chance(50) ? 0u - (uint32_t)random_below(NUMBERS) : (uint32_t)random_next();
		isn[SVR] = (uint32_t)random_next();
		flow_begin();
		random_conversation();
		flow_over();
	}
}

/* Whatever comes, the two stacks keep their promises. */
TEST(random_nonsense_keeps_the_invariants)
{
	random_begin("tcp, nonsense");
	for (int round = 0; round < 3000 && !check_failures; round++) {
		isn[CLI] = (uint32_t)random_next();
		isn[SVR] = (uint32_t)random_next();
		flow_begin();
		say((struct said){CLI, SYN, .seq = 0});
		for (int step = 0; step < 60 && !check_failures; step++) {
			int64_t gap, near = random_chance(90) ? 300 : 100000;
			uint64_t missing;
			int side = random_chance(50);

			now_ns += random_below(50 * MS);
			say((struct said){side,
			                  (unsigned)(random_below(32) | (random_chance(80) ? ACK : 0)) &
			                          ~(random_chance(80) ? (SYN | RST) : 0u),
			                  random_between(-near / 10, near), (uint32_t)random_below(200),
			                  random_between(0, near),
			                  .window = random_chance(5) ? CLOSED_WINDOW : (int)random_below(65536)});
			for (int i = 0; i < 2; i++) {
				struct flow_half *half = &flow.half[i];

				CHECK(half->state < MOS_TCP_STATES);
				CHECK(half->snd_max >= 0 && half->snd_max < 10000000);
				if (flow.cold)
					tcp_skip_gap(&flow, i, now_ns, random_chance(5), &gap, &missing);
				CHECK(half_rcv_nxt(&flow, i) <= half->snd_max);
				CHECK(tcp_readable_edge(&flow, i) <= half->snd_max);
			}
			CHECK(s.errors <= SEGMENT_ERRORS);
			CHECK(s.accepted || s.errors > 0);
		}
		flow_over();
	}
}
