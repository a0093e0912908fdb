/* test_tcp_state.c - the state table: RFC 9293 figure 5 arrow by arrow, and what holds everywhere. */
// sources: tcp/tcp_state.c
#include "check.h"
#include "tcp/tcp_state.h"

#define TO(from, input, to) CHECK_EQ(tcp_next_state(MOS_TCP_##from, input), MOS_TCP_##to)

TEST(every_input_leads_from_every_state_to_a_state)
{
	for (int state = 0; state < MOS_TCP_STATES; state++)
		for (int input = 0; input < TCP_INPUTS; input++)
			CHECK(tcp_next_state((uint8_t)state, (enum tcp_input)input) < MOS_TCP_STATES);
}

TEST(figure_5_opening)
{
	TO(CLOSED, SENT_SYN, SYN_SENT);
	TO(LISTEN, GOT_SYN, SYN_RCVD);
	TO(LISTEN, SENT_SYN, SYN_SENT);
	TO(SYN_SENT, GOT_SYN, SYN_RCVD);
	TO(SYN_SENT, GOT_SYN_ACK, ESTABLISHED);
	TO(SYN_RCVD, GOT_ACK_OF_SYN, ESTABLISHED);
	TO(SYN_RCVD, SENT_SYN_ACK, SYN_RCVD);
}

TEST(figure_5_closing)
{
	TO(SYN_RCVD, SENT_FIN, FIN_WAIT_1);
	TO(ESTABLISHED, SENT_FIN, FIN_WAIT_1);
	TO(ESTABLISHED, GOT_FIN, CLOSE_WAIT);
	TO(FIN_WAIT_1, GOT_ACK_OF_FIN, FIN_WAIT_2);
	TO(FIN_WAIT_1, GOT_FIN, CLOSING);
	TO(FIN_WAIT_2, GOT_FIN, TIME_WAIT);
	TO(CLOSE_WAIT, SENT_FIN, LAST_ACK);
	TO(CLOSING, GOT_ACK_OF_FIN, TIME_WAIT);
	TO(LAST_ACK, GOT_ACK_OF_FIN, CLOSED);
}

TEST(note_2_of_figure_5)
{
	TO(SYN_RCVD, GOT_FIN, CLOSE_WAIT); /* RFC 9293 3.10.7.4, eighth: a FIN in SYN-RECEIVED */
	TO(TIME_WAIT, GOT_FIN, TIME_WAIT);
	TO(LAST_ACK, GOT_FIN, LAST_ACK);
	TO(CLOSE_WAIT, GOT_FIN, CLOSE_WAIT);
	TO(CLOSING, GOT_FIN, CLOSING);
}

TEST(a_reset_closes_everything)
{
	for (int state = 0; state < MOS_TCP_STATES; state++) {
		CHECK_EQ(tcp_next_state((uint8_t)state, SENT_RST), MOS_TCP_CLOSED);
		CHECK_EQ(tcp_next_state((uint8_t)state, GOT_RST), MOS_TCP_CLOSED);
	}
}

TEST(closed_is_left_by_a_syn_only)
{
	for (int input = 0; input < TCP_INPUTS; input++)
		if (input != SENT_SYN && input != SENT_SYN_ACK)
			CHECK_EQ(tcp_next_state(MOS_TCP_CLOSED, (enum tcp_input)input), MOS_TCP_CLOSED);
}

TEST(time_wait_is_left_by_a_reset_only)
{
	for (int input = 0; input < TCP_INPUTS; input++)
		if (input != SENT_RST && input != GOT_RST)
			CHECK_EQ(tcp_next_state(MOS_TCP_TIME_WAIT, (enum tcp_input)input), MOS_TCP_TIME_WAIT);
}

/* No input takes a stack back to an earlier part of the connection. */
TEST(nothing_goes_back)
{
	static const int rank[MOS_TCP_STATES] = {
		[MOS_TCP_LISTEN] = 0,     [MOS_TCP_SYN_SENT] = 1,   [MOS_TCP_SYN_RCVD] = 2,   [MOS_TCP_ESTABLISHED] = 3,
		[MOS_TCP_FIN_WAIT_1] = 4, [MOS_TCP_CLOSE_WAIT] = 4, [MOS_TCP_FIN_WAIT_2] = 5, [MOS_TCP_CLOSING] = 5,
		[MOS_TCP_LAST_ACK] = 5,   [MOS_TCP_TIME_WAIT] = 6,  [MOS_TCP_CLOSED] = 7,
	};

	for (int state = 1; state < MOS_TCP_STATES; state++)
		for (int input = 0; input < TCP_INPUTS; input++)
			CHECK(rank[tcp_next_state((uint8_t)state, (enum tcp_input)input)] >= rank[state]);
}

/* The same input twice is a retransmission, and tells nothing new. */
TEST(what_is_sent_or_received_twice_counts_once)
{
	for (int state = 0; state < MOS_TCP_STATES; state++)
		for (int input = 0; input < TCP_INPUTS; input++) {
			uint8_t once = tcp_next_state((uint8_t)state, (enum tcp_input)input);

			CHECK_EQ(tcp_next_state(once, (enum tcp_input)input), once);
		}
}

/* All ways through a connection of either role end in CLOSED or TIME_WAIT. */
TEST(both_roles_from_beginning_to_end)
{
	static const enum tcp_input active[] = {SENT_SYN, GOT_SYN_ACK,    SENT_ACK, SENT_DATA,
	                                        SENT_FIN, GOT_ACK_OF_FIN, GOT_FIN};
	static const enum tcp_input passive[] = {GOT_SYN,  SENT_SYN_ACK, GOT_ACK_OF_SYN, GOT_FIN,
	                                         SENT_ACK, SENT_FIN,     GOT_ACK_OF_FIN};
	uint8_t client = MOS_TCP_CLOSED, server = MOS_TCP_LISTEN;

	for (size_t i = 0; i < 7; i++) {
		client = tcp_next_state(client, active[i]);
		server = tcp_next_state(server, passive[i]);
	}
	CHECK_EQ(client, MOS_TCP_TIME_WAIT);
	CHECK_EQ(server, MOS_TCP_CLOSED);
}

TEST(moving_notes_a_real_change_only)
{
	struct flow flow = {0};
	struct segment segment = {.flow = &flow};

	tcp_set_state(&segment, MOS_SIDE_SVR, MOS_TCP_CLOSED);
	CHECK_EQ(segment.changed, 0);
	tcp_move(&segment, MOS_SIDE_CLI, SENT_SYN);
	CHECK_EQ(segment.changed, 1 << MOS_SIDE_CLI);
	CHECK_EQ(flow.half[MOS_SIDE_CLI].state, MOS_TCP_SYN_SENT);
	CHECK_EQ(flow.half[MOS_SIDE_SVR].state, MOS_TCP_CLOSED);
	tcp_set_state(&segment, MOS_SIDE_SVR, MOS_TCP_LISTEN);
	CHECK_EQ(segment.changed, 3);
}

TEST(finished_and_synchronized)
{
	for (int state = 0; state < MOS_TCP_STATES; state++) {
		CHECK_EQ(tcp_is_finished((uint8_t)state, true), state == MOS_TCP_CLOSED);
		CHECK_EQ(tcp_is_finished((uint8_t)state, false), state == MOS_TCP_CLOSED || state == MOS_TCP_TIME_WAIT);
		CHECK_EQ(tcp_is_synchronized((uint8_t)state), state >= MOS_TCP_ESTABLISHED);
	}
}

TEST(names)
{
	CHECK_STR(tcp_state_name(MOS_TCP_CLOSED), "CLOSED");
	CHECK_STR(tcp_state_name(MOS_TCP_SYN_RCVD), "SYN_RCVD");
	CHECK_STR(tcp_state_name(MOS_TCP_FIN_WAIT_2), "FIN_WAIT_2");
	CHECK_STR(tcp_state_name(MOS_TCP_TIME_WAIT), "TIME_WAIT");
	CHECK_STR(tcp_state_name(-1), "?");
	CHECK_STR(tcp_state_name(MOS_TCP_STATES), "?");
}
