/* tcp_state.c - the table of tcp_state.h. */
#include "tcp_state.h"

/* Short names for the table only. */
#define CLOSED MOS_TCP_CLOSED
#define LISTEN MOS_TCP_LISTEN
#define SYN_SENT MOS_TCP_SYN_SENT
#define SYN_RCVD MOS_TCP_SYN_RCVD
#define ESTAB MOS_TCP_ESTABLISHED
#define FIN_1 MOS_TCP_FIN_WAIT_1
#define FIN_2 MOS_TCP_FIN_WAIT_2
#define CL_WAIT MOS_TCP_CLOSE_WAIT
#define CLOSING MOS_TCP_CLOSING
#define LAST_ACK MOS_TCP_LAST_ACK
#define T_WAIT MOS_TCP_TIME_WAIT

/* One row per input, one column per state, in the order of enum mos_tcp_state. */
/* clang-format off */
static const uint8_t next_state[TCP_INPUTS][MOS_TCP_STATES] = {
	/*                     CLOSED    LISTEN    SYN_SENT  SYN_RCVD  ESTAB    FIN_1    FIN_2   CL_WAIT   CLOSING  LAST_ACK  T_WAIT */
	[SENT_SYN] =          {SYN_SENT, SYN_SENT, SYN_SENT, SYN_RCVD, ESTAB  , FIN_1  , FIN_2 , CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[SENT_SYN_ACK] =      {SYN_RCVD, SYN_RCVD, SYN_RCVD, SYN_RCVD, ESTAB  , FIN_1  , FIN_2 , CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[SENT_ACK] =          {CLOSED  , ESTAB   , ESTAB   , SYN_RCVD, ESTAB  , FIN_1  , FIN_2 , CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[SENT_DATA] =         {CLOSED  , ESTAB   , ESTAB   , ESTAB   , ESTAB  , FIN_1  , FIN_2 , CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[SENT_FIN] =          {CLOSED  , FIN_1   , FIN_1   , FIN_1   , FIN_1  , FIN_1  , FIN_2 , LAST_ACK, CLOSING, LAST_ACK, T_WAIT},
	[SENT_CROSSING_FIN] = {CLOSED  , FIN_1   , FIN_1   , FIN_1   , FIN_1  , FIN_1  , FIN_2 , CLOSING , CLOSING, LAST_ACK, T_WAIT},
	[SENT_RST] =          {CLOSED  , CLOSED  , CLOSED  , CLOSED  , CLOSED , CLOSED , CLOSED, CLOSED  , CLOSED , CLOSED  , CLOSED},
	[GOT_SYN] =           {CLOSED  , SYN_RCVD, SYN_RCVD, SYN_RCVD, ESTAB  , FIN_1  , FIN_2 , CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[GOT_SYN_ACK] =       {CLOSED  , LISTEN  , ESTAB   , ESTAB   , ESTAB  , FIN_1  , FIN_2 , CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[GOT_ACK_OF_SYN] =    {CLOSED  , ESTAB   , ESTAB   , ESTAB   , ESTAB  , FIN_1  , FIN_2 , CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[GOT_ACK_OF_FIN] =    {CLOSED  , LISTEN  , SYN_SENT, SYN_RCVD, ESTAB  , FIN_2  , FIN_2 , CL_WAIT , T_WAIT , CLOSED  , T_WAIT},
	[GOT_FIN] =           {CLOSED  , CL_WAIT , CL_WAIT , CL_WAIT , CL_WAIT, CLOSING, T_WAIT, CL_WAIT , CLOSING, LAST_ACK, T_WAIT},
	[GOT_RST] =           {CLOSED  , CLOSED  , CLOSED  , CLOSED  , CLOSED , CLOSED , CLOSED, CLOSED  , CLOSED , CLOSED  , CLOSED},
};
/* clang-format on */

uint8_t tcp_next_state(uint8_t state, enum tcp_input input)
{
	return next_state[input][state];
}

const char *tcp_state_name(int state)
{
	static const char *const name[MOS_TCP_STATES] = {
		"CLOSED",     "LISTEN",     "SYN_SENT", "SYN_RCVD", "ESTABLISHED", "FIN_WAIT_1",
		"FIN_WAIT_2", "CLOSE_WAIT", "CLOSING",  "LAST_ACK", "TIME_WAIT",
	};

	return state >= 0 && state < MOS_TCP_STATES ? name[state] : "?";
}
