/*
 * capture_vs_libpcap.c - is our reader right?  Read files with it and with libpcap, record by record.
 *
 *	capture_vs_libpcap [--burst N] FILE...
 *	capture_vs_libpcap [--burst N] --against REFERENCE FILE
 *
 * The second form is for what libpcap cannot read: our reader takes FILE (packed, or "-"), libpcap
 * the same capture from REFERENCE.  Compared: number, time to the nanosecond, captured and wire
 * length, bytes, link type.  Prints the first difference and exits with 1.
 *
 * Two things are no difference: libpcap cuts a frame of a pcap file to the header's snap length
 * (we keep it), and it stops at an interface unlike the first one (we go on).
 */
// sources: io/capture.c io/capture_file.c io/capture_pcap.c io/capture_pcapng.c io/byte_source.c
// libs: -lz -lzstd -lpcap
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/capture.h"

struct reader {
	struct capture *capture;
	struct mos_pkt pkt[1024];
	unsigned burst;
	int count, at;
};

/* The next packet of our reader, NULL at the end; *error tells an end from a failure. */
static const struct mos_pkt *next_packet(struct reader *reader, int *error)
{
	*error = 0;
	if (reader->at == reader->count) {
		do {
			reader->count = capture_read(reader->capture, reader->pkt, reader->burst);
		} while (reader->count == -EAGAIN);
		reader->at = 0;
		if (reader->count < 0)
			*error = reader->count;
		if (reader->count <= 0) {
			reader->count = 0;
			return NULL;
		}
	}
	return &reader->pkt[reader->at++];
}

/* DLT_* are LINKTYPE_* but for a few old ones, which differ between systems. */
static int same_linktype(pcap_t *pcap, unsigned linktype)
{
	int dlt = pcap_datalink(pcap);

	if (dlt == (int)linktype)
		return 1;
	return (dlt == DLT_RAW && linktype == 101) || (dlt == DLT_ATM_RFC1483 && linktype == 100) ||
	       (dlt == DLT_PPP_BSDOS && linktype == 14) || (dlt == DLT_ENC && linktype == 109);
}

static int differ(const char *file, unsigned long long number, const char *what, unsigned long long ours,
                  unsigned long long theirs)
{
	printf("%s: packet %llu: %s: %llu, libpcap %llu\n", file, number, what, ours, theirs);
	return 1;
}

static int compare_packet(const char *file, unsigned long long number, pcap_t *pcap, const struct mos_pkt *pkt,
                          const struct pcap_pkthdr *head, const u_char *data)
{
	unsigned long long time_ns = (unsigned long long)head->ts.tv_sec * 1000000000u +
	                             (unsigned long long)head->ts.tv_usec;
	int cut = pkt->caplen > (unsigned)pcap_snapshot(pcap) && head->caplen == (unsigned)pcap_snapshot(pcap);

	if (pkt->time_ns != time_ns)
		return differ(file, number, "time", pkt->time_ns, time_ns);
	if (pkt->caplen != head->caplen && !cut)
		return differ(file, number, "captured length", pkt->caplen, head->caplen);
	if (pkt->wirelen != head->len)
		return differ(file, number, "wire length", pkt->wirelen, head->len);
	if (!same_linktype(pcap, pkt->linktype))
		return differ(file, number, "link type", pkt->linktype, (unsigned long long)pcap_datalink(pcap));
	for (unsigned i = 0; i < head->caplen; i++)
		if (pkt->frame[i] != data[i])
			return differ(file, number, "a byte", pkt->frame[i], data[i]);
	return 0;
}

static int is_limit_of_libpcap(const char *error)
{
	return strstr(error, "different from the") != NULL || strstr(error, "different byte orders") != NULL;
}

/* Both readers are at an end, or one failed: the same thing? */
static int compare_ends(const char *file, unsigned long long number, struct reader *reader, pcap_t *pcap,
                        const struct mos_pkt *pkt, int error, int status)
{
	if (status == PCAP_ERROR && is_limit_of_libpcap(pcap_geterr(pcap))) {
		printf("%s: same for %llu packets, then libpcap cannot go on: %s\n", file, number, pcap_geterr(pcap));
		return 0;
	}
	if (pkt == NULL && status != 1 && (error != 0) == (status == PCAP_ERROR)) {
		printf("%s: same, %llu packets%s%s\n", file, number, error ? ", then: " : "",
		       error ? capture_error(reader->capture) : "");
		return 0;
	}
	printf("%s: after %llu packets: we have %s, libpcap has %s\n", file, number,
	       pkt     ? "one more"
	       : error ? capture_error(reader->capture)
	               : "the end",
	       status == 1            ? "one more"
	       : status == PCAP_ERROR ? pcap_geterr(pcap)
	                              : "the end");
	return 1;
}

static int compare_packets(const char *file, struct reader *reader, pcap_t *pcap)
{
	for (unsigned long long number = 0;; number++) {
		struct pcap_pkthdr *head;
		const u_char *data;
		int error;
		const struct mos_pkt *pkt = next_packet(reader, &error);
		int status = pcap_next_ex(pcap, &head, &data);

		if (pkt == NULL || status != 1)
			return compare_ends(file, number, reader, pcap, pkt, error, status);
		if (compare_packet(file, number + 1, pcap, pkt, head, data) != 0)
			return 1;
	}
}

static int compare_file(const char *file, const char *reference, unsigned burst)
{
	static struct reader reader;
	char error[512], pcap_error[PCAP_ERRBUF_SIZE];
	int failed = capture_open(&reader.capture, &file, 1, error, sizeof error);
	pcap_t *pcap = pcap_open_offline_with_tstamp_precision(reference, PCAP_TSTAMP_PRECISION_NANO, pcap_error);
	int result;

	reader.burst = burst;
	reader.count = reader.at = 0;
	if (failed == 0 && pcap != NULL) {
		result = compare_packets(file, &reader, pcap);
	} else {
		result = !(failed != 0 && pcap == NULL);
		printf("%s: we say: %s; libpcap says: %s\n", file, failed ? error : "a capture",
		       pcap ? "a capture" : pcap_error);
	}
	if (pcap != NULL)
		pcap_close(pcap);
	if (failed == 0)
		capture_close(reader.capture);
	return result;
}

int main(int argc, char **argv)
{
	const char *reference = NULL;
	unsigned burst = 64;
	int result = 0, i = 1;

	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		if (strcmp(argv[i], "--burst") == 0)
			burst = (unsigned)atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--against") == 0)
			reference = argv[i + 1];
		else
			break;
	}
	if (i == argc || burst < 1 || burst > 1024 || (reference != NULL && argc - i != 1)) {
		fprintf(stderr, "usage: %s [--burst N] [--against REFERENCE] FILE...\n", argv[0]);
		return 2;
	}
	for (; i < argc; i++)
		result |= compare_file(argv[i], reference ? reference : argv[i], burst);
	return result;
}
