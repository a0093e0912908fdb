/* api_process.c - what belongs to the process, not to a context. */
#include <net/if.h>

#include "../io/eal.h"
#include "../io/port.h"
#include "../live.h"
#include "../mos.h"

const char *mos_version(void)
{
	return MOS_VERSION;
}

const char *mos_dpdk_version(void)
{
	return eal_dpdk_version();
}

int mos_is_interface(const char *name)
{
	return if_nametoindex(name) != 0;
}

int mos_eal_start(char *err, size_t errlen)
{
	return eal_start(err, errlen);
}

static uint64_t read_live(_Atomic int64_t *counter)
{
	return (uint64_t)atomic_load_explicit(counter, memory_order_relaxed);
}

void mos_live(struct mos_live_objects *live)
{
	*live = (struct mos_live_objects){
		.contexts = read_live(&live_objects.contexts),
		.flows = read_live(&live_objects.flow_chunks),
		.pages = read_live(&live_objects.pages),
		.ranges = read_live(&live_objects.ranges),
		.tables = read_live(&live_objects.tables),
		.mbufs = port_live_mbufs(),
	};
}
