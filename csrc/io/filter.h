/*
 * filter.h - pcap-filter(7) expressions, compiled and run by libpcap.
 *
 * SYN and orphan filters are compiled for raw IP and see the innermost IP packet, so link types,
 * VLAN tags and tunnels do not disturb them, and link-level words are an error.  Raw filters see
 * the frame as tcpdump does; they are compiled once per link type met.
 * Threads: one thread per filter (libpcap's compiler is serialised inside).
 * Errors: -EINVAL and a sentence with libpcap's words and, where it can be told, the position.
 */
#ifndef MOS_IO_FILTER_H
#define MOS_IO_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct filter;

/* Link types that filters are bound with: pcap-linktype(7). */
enum filter_link {
	LINKTYPE_ETHERNET = 1,
	LINKTYPE_RAW_IP = 101
};

/* linktype: the one the text must be valid for now (LINKTYPE_RAW = 101 for SYN filters). */
int filter_compile(struct filter **filter, const char *text, int linktype, char *err, size_t errlen);
void filter_free(struct filter *filter);

/* Does a frame of this link type match?  caplen bytes at data, wirelen on the wire. */
bool filter_match(struct filter *filter, int linktype, const uint8_t *data, uint32_t caplen, uint32_t wirelen);

#endif
