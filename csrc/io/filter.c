/* filter.c - see filter.h. */
#include "filter.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FILTER_LINKS = 8,
	FILTER_SNAPLEN = 262144
};

struct program {
	int linktype;
	bool fine; /* the text has a meaning for this link type */
	struct bpf_program bpf;
};

struct filter {
	char *text;
	uint32_t programs;
	struct program program[FILTER_LINKS];
};

/* libpcap before 1.8 keeps compiler state in globals, and later ones still share name caches. */
static pthread_mutex_t compiler = PTHREAD_MUTEX_INITIALIZER;

static int compile(struct bpf_program *bpf, const char *text, int linktype, char *err, size_t errlen)
{
	int dlt = linktype == LINKTYPE_RAW_IP ? DLT_RAW : linktype, rc;
	pcap_t *pcap = pcap_open_dead(dlt, FILTER_SNAPLEN);

	if (!pcap) {
		snprintf(err, errlen, "no memory to compile the filter");
		return -ENOMEM;
	}
	pthread_mutex_lock(&compiler);
	rc = pcap_compile(pcap, bpf, text, 1, PCAP_NETMASK_UNKNOWN);
	pthread_mutex_unlock(&compiler);
	if (rc)
		snprintf(err, errlen, "%s", pcap_geterr(pcap));
	pcap_close(pcap);
	return rc ? -EINVAL : 0;
}

/* libpcap does not say where it stopped: the longest prefix of words that compiles tells. */
static size_t error_position(const char *text, int linktype)
{
	size_t len = strlen(text), good = 0;
	char *prefix = strdup(text), err[PCAP_ERRBUF_SIZE];

	if (!prefix)
		return 0;
	for (size_t end = len; end > 0; end--) {
		struct bpf_program bpf;

		if (end < len && text[end] != ' ')
			continue;
		prefix[end] = '\0';
		if (compile(&bpf, prefix, linktype, err, sizeof err))
			continue;
		pcap_freecode(&bpf);
		good = end;
		break;
	}
	free(prefix);
	while (text[good] == ' ')
		good++;
	return good;
}

static void explain(const char *text, int linktype, const char *why, char *err, size_t errlen)
{
	size_t at = error_position(text, linktype);

	snprintf(err, errlen,
	         "bad filter: %s, at or after column %zu (\"%.20s\") of \"%.200s\"; the syntax is pcap-filter(7)", why,
	         at + 1, text + at, text);
}

int filter_compile(struct filter **filter, const char *text, int linktype, char *err, size_t errlen)
{
	char why[PCAP_ERRBUF_SIZE];
	struct filter *made = calloc(1, sizeof *made);
	int rc;

	if (!made || !(made->text = strdup(text))) {
		free(made);
		snprintf(err, errlen, "no memory for the filter");
		return -ENOMEM;
	}
	rc = compile(&made->program[0].bpf, text, linktype, why, sizeof why);
	if (rc) {
		if (rc == -EINVAL)
			explain(text, linktype, why, err, errlen);
		free(made->text);
		free(made);
		return rc;
	}
	made->program[0].linktype = linktype;
	made->program[0].fine = true;
	made->programs = 1;
	*filter = made;
	return 0;
}

void filter_free(struct filter *filter)
{
	if (!filter)
		return;
	for (uint32_t i = 0; i < filter->programs; i++)
		if (filter->program[i].fine)
			pcap_freecode(&filter->program[i].bpf);
	free(filter->text);
	free(filter);
}

/* The program for a link type, compiled when it is first met; the last slot is reused. */
static struct program *program_for(struct filter *filter, int linktype)
{
	char why[PCAP_ERRBUF_SIZE];
	struct program *program;

	for (uint32_t i = 0; i < filter->programs; i++)
		if (filter->program[i].linktype == linktype)
			return &filter->program[i];
	if (filter->programs < FILTER_LINKS) {
		program = &filter->program[filter->programs++];
	} else {
		program = &filter->program[FILTER_LINKS - 1];
		if (program->fine)
			pcap_freecode(&program->bpf);
	}
	program->linktype = linktype;
	program->fine = !compile(&program->bpf, filter->text, linktype, why, sizeof why);
	return program;
}

bool filter_match(struct filter *filter, int linktype, const uint8_t *data, uint32_t caplen, uint32_t wirelen)
{
	struct program *program = program_for(filter, linktype);
	struct pcap_pkthdr header = {.caplen = caplen, .len = wirelen};

	return program->fine && pcap_offline_filter(&program->bpf, &header, data);
}
