/* names.c - names and sentences for the numbers of the contract, from the *_list.h files. */
#include "../mos.h"
#include "../tcp/tcp_state.h"

struct entry {
	const char *name, *text;
};

#define X(suffix, name, text) [MOS_CNT_##suffix] = {name, text},
static const struct entry counters[] = {
#include "counter_list.h"
};
#undef X

#define X(suffix, name, text) [MOS_ERR_##suffix] = {name, text},
static const struct entry errors[] = {
#include "error_list.h"
};
#undef X

static const char *const end_reasons[] = {
	"none", "fin", "rst", "timeout", "port_reuse", "evicted", "eof", "shutdown",
};

static const char *const segment_classes[] = {
	"normal",
	"zero_window_probe",
	"keep_alive",
	"spurious_retransmission",
	"fast_retransmission",
	"retransmission",
	"out_of_order",
	"unseen_retransmission",
};

_Static_assert(sizeof counters / sizeof *counters == MOS_CNT_COUNTERS, "one line per counter");
_Static_assert(sizeof errors / sizeof *errors == MOS_ERR_REASONS, "one line per reason");
_Static_assert(sizeof end_reasons / sizeof *end_reasons == MOS_END_REASONS, "one name per reason");
_Static_assert(sizeof segment_classes / sizeof *segment_classes == MOS_SEG_CLASSES, "one name per class");

static const struct entry unknown = {"?", "?"};

static const struct entry *pick(const struct entry *list, int index, int count)
{
	return index >= 0 && index < count ? &list[index] : &unknown;
}

const char *mos_counter_name(int counter)
{
	return pick(counters, counter, MOS_CNT_COUNTERS)->name;
}

const char *mos_counter_text(int counter)
{
	return pick(counters, counter, MOS_CNT_COUNTERS)->text;
}

const char *mos_error_name(int reason)
{
	return pick(errors, reason, MOS_ERR_REASONS)->name;
}

const char *mos_error_sentence(int reason)
{
	return pick(errors, reason, MOS_ERR_REASONS)->text;
}

const char *mos_end_reason_name(int reason)
{
	return reason >= 0 && reason < MOS_END_REASONS ? end_reasons[reason] : "?";
}

const char *mos_segment_class_name(int segment_class)
{
	return segment_class >= 0 && segment_class < MOS_SEG_CLASSES ? segment_classes[segment_class] : "?";
}

const char *mos_tcp_state_name(int state)
{
	return tcp_state_name(state);
}
