/* test_filter.c - pcap-filter texts: good ones, bad ones, and what they match on which link type. */
// sources: io/filter.c
// libs: -lpcap
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "io/filter.h"

enum {
	ETHERNET = 1,
	RAW = 101
};

static char error[512];

/* TCP 10.0.0.1:40000 -> 192.168.1.2:80, SYN. */
static const uint8_t packet[] = {
	0x45, 0x00, 0x00, 0x28, 0x12, 0x34, 0x40, 0x00, 0x40, 0x06, 0x00, 0x00, 10,   0,    0,    1,    192, 168, 1, 2,
	0x9c, 0x40, 0x00, 0x50, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00, 0x50, 0x02, 0xff, 0xff, 0,   0,   0, 0,
};

static struct filter *make(const char *text, int linktype)
{
	struct filter *filter = NULL;
	int rc;

	error[0] = '\0';
	rc = filter_compile(&filter, text, linktype, error, sizeof error);
	CHECK_EQ(rc, 0);
	CHECK_STR(error, "");
	if (rc)
		printf("filter \"%s\" on link type %d\n", text, linktype);
	return filter;
}

static void check_bad(const char *text, int linktype)
{
	struct filter *filter = (struct filter *)&error;

	error[0] = '\0';
	CHECK_EQ(filter_compile(&filter, text, linktype, error, sizeof error), -EINVAL);
	CHECK(filter == (struct filter *)&error); /* untouched */
	CHECK_HAS(error, "bad filter");
	CHECK(strlen(error) > 20);
}

/* The packet behind a link header, in a block of its exact size. */
static bool matches(struct filter *filter, int linktype, const void *link, size_t link_len, size_t cut)
{
	size_t len = link_len + sizeof packet, cap = len - cut;
	uint8_t *whole = malloc(len), *block = malloc(cap ? cap : 1);
	bool match;

	if (link_len)
		memcpy(whole, link, link_len);
	memcpy(whole + link_len, packet, sizeof packet);
	memcpy(block, whole, cap);
	match = filter_match(filter, linktype, block, (uint32_t)cap, (uint32_t)len);
	free(whole);
	free(block);
	return match;
}

#define MAC "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"
static const char ethernet[] = MAC "\x08\x00";
static const char vlan[] = MAC "\x81\x00\x00\x07\x08\x00";

static bool matches_raw(const char *text)
{
	struct filter *filter = make(text, RAW);
	bool match = filter && matches(filter, RAW, "", 0, 0);

	filter_free(filter);
	return match;
}

static bool matches_ethernet(const char *text, const char *link, size_t len)
{
	struct filter *filter = make(text, ETHERNET);
	bool match = filter && matches(filter, ETHERNET, link, len, 0);

	filter_free(filter);
	return match;
}

TEST(raw_ip)
{
	CHECK(matches_raw("tcp"));
	CHECK(matches_raw("ip"));
	CHECK(matches_raw("host 10.0.0.1"));
	CHECK(matches_raw("src host 10.0.0.1 and dst port 80"));
	CHECK(matches_raw("dst net 192.168.0.0/16"));
	CHECK(matches_raw("tcp[tcpflags] & tcp-syn != 0"));
	CHECK(matches_raw("portrange 70-90"));
	CHECK(matches_raw("len == 40"));
	CHECK(matches_raw("")); /* no condition: everything */
	CHECK(!matches_raw("udp"));
	CHECK(!matches_raw("ip6"));
	CHECK(!matches_raw("dst host 10.0.0.1"));
	CHECK(!matches_raw("port 81"));
	CHECK(!matches_raw("tcp[tcpflags] & tcp-ack != 0"));
	CHECK(!matches_raw("not tcp"));
}

TEST(link_level_words_are_an_error_on_raw_ip)
{
	check_bad("ether host 02:00:00:00:00:01", RAW);
	check_bad("vlan", RAW);
	check_bad("vlan and tcp", RAW);
	check_bad("mpls", RAW);
	filter_free(make("ether host 02:00:00:00:00:01", ETHERNET));
	filter_free(make("vlan and tcp", ETHERNET));
}

TEST(ethernet_frames)
{
	CHECK(matches_ethernet("tcp", ethernet, 14));
	CHECK(matches_ethernet("tcp port 80", ethernet, 14));
	CHECK(matches_ethernet("ether dst 02:00:00:00:00:01", ethernet, 14));
	CHECK(!matches_ethernet("ether src 02:00:00:00:00:01", ethernet, 14));
	CHECK(!matches_ethernet("vlan", ethernet, 14));
	CHECK(matches_ethernet("len == 54", ethernet, 14));
}

/* As in tcpdump: without the word `vlan` a tagged frame is no IP. */
TEST(vlan_frames_as_tcpdump_sees_them)
{
	CHECK(!matches_ethernet("tcp", vlan, 18));
	CHECK(!matches_ethernet("host 10.0.0.1", vlan, 18));
	CHECK(matches_ethernet("vlan", vlan, 18));
	CHECK(matches_ethernet("vlan 7", vlan, 18));
	CHECK(!matches_ethernet("vlan 8", vlan, 18));
	CHECK(matches_ethernet("vlan and tcp port 80", vlan, 18));
	CHECK(matches_ethernet("tcp or (vlan and tcp)", vlan, 18));
	CHECK(matches_ethernet("tcp or (vlan and tcp)", ethernet, 14));
}

TEST(one_filter_on_many_link_types)
{
	static const char sll[] = "\x00\x00\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00\x08\x00";
	static const char sll2[] = "\x08\x00\x00\x00\x00\x00\x00\x03\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00";
	struct filter *tcp = make("tcp port 80", ETHERNET), *udp = make("udp", ETHERNET);

	REQUIRE(tcp != NULL && udp != NULL);
	for (int round = 0; round < 3; round++) {
		CHECK(matches(tcp, ETHERNET, ethernet, 14, 0));
		CHECK(matches(tcp, RAW, "", 0, 0));
		CHECK(matches(tcp, 12, "", 0, 0));
		CHECK(matches(tcp, 228, "", 0, 0));
		CHECK(matches(tcp, 0, "\x02\x00\x00\x00", 4, 0));
		CHECK(matches(tcp, 108, "\x00\x00\x00\x02", 4, 0));
		CHECK(matches(tcp, 113, sll, 16, 0));
		CHECK(matches(tcp, 276, sll2, 20, 0));
		CHECK(matches(tcp, 9, "\xff\x03\x00\x21", 4, 0)); /* PPP: more types than places */
		CHECK(!matches(udp, 113, sll, 16, 0));
		CHECK(!matches(udp, RAW, "", 0, 0));
		CHECK(!matches(tcp, 147, ethernet, 14, 0)); /* a type without IP: no match, no error */
	}
	filter_free(tcp);
	filter_free(udp);
}

/* Valid for the link type it was made for, meaningless on another: no match there. */
TEST(a_text_without_meaning_on_a_link_type_matches_nothing_there)
{
	struct filter *filter = make("ether dst 02:00:00:00:00:01", ETHERNET);

	REQUIRE(filter != NULL);
	CHECK(!matches(filter, RAW, "", 0, 0));
	CHECK(matches(filter, ETHERNET, ethernet, 14, 0));
	CHECK(!matches(filter, RAW, "", 0, 0));
	filter_free(filter);
}

TEST(cut_packets_do_not_match_what_is_gone)
{
	struct filter *filter = make("dst port 80", RAW), *all = make("", RAW);

	REQUIRE(filter != NULL && all != NULL);
	for (size_t cut = 0; cut <= sizeof packet; cut++) {
		CHECK_EQ(matches(filter, RAW, "", 0, cut), sizeof packet - cut >= 24);
		CHECK(matches(all, RAW, "", 0, cut));
	}
	filter_free(filter);
	filter_free(all);
}

static void check_column(const char *text, const char *column, const char *rest)
{
	char expected[128];

	check_bad(text, RAW);
	snprintf(expected, sizeof expected, "column %s (\"%s", column, rest);
	CHECK_HAS(error, expected);
	CHECK_HAS(error, "pcap-filter(7)");
	CHECK_HAS(error, text);
}

TEST(the_message_says_where)
{
	check_column("nonsense!", "1", "nonsense!");
	check_column("tcp port", "5", "port");
	check_column("tcp and", "5", "and");
	check_column("tcp and port 80 or or", "17", "or or");
	check_column("tcp  and", "6", "and");
	check_column("port 99999", "1", "port 99999");
	check_column("tcp and (port 80", "5", "and (port 80");
	check_column("tcp and ether host 02:00:00:00:00:01", "5", "and ether host");
}

TEST(long_and_odd_texts)
{
	static char text[20000];
	struct filter *filter;

	for (size_t i = 0; i + 12 < sizeof text / 10; i += 12)
		memcpy(text + i, "port 1234 or", 12);
	check_bad(text, RAW);
	strcpy(text, "port 80");
	for (int i = 0; i < 200; i++)
		strcat(text, " or port 443");
	filter = make(text, RAW);
	REQUIRE(filter != NULL);
	CHECK(matches(filter, RAW, "", 0, 0));
	filter_free(filter);
	check_bad("\xff\xfe", RAW);
	check_bad("(((((((((((((((((((", RAW);
	check_bad("%s%n%s", RAW);
	CHECK_HAS(error, "%s%n%s");
}

TEST(a_short_place_for_the_message)
{
	struct filter *filter;
	char small[10];

	memset(small, 'x', sizeof small);
	CHECK_EQ(filter_compile(&filter, "tcp port", RAW, small, sizeof small), -EINVAL);
	CHECK_EQ(strlen(small), 9);
}

static void *compile_often(void *arg)
{
	for (int i = 0; i < 200; i++) {
		struct filter *filter;
		char why[256];

		if (filter_compile(&filter, i & 1 ? "tcp port 80" : "tcp port", RAW, why, sizeof why) == 0) {
			if (!filter_match(filter, RAW, packet, sizeof packet, sizeof packet))
				*(int *)arg = 1;
			filter_free(filter);
		}
	}
	return NULL;
}

TEST(two_threads_compile_at_once)
{
	pthread_t thread;
	int wrong[2] = {0};

	REQUIRE(pthread_create(&thread, NULL, compile_often, &wrong[0]) == 0);
	compile_often(&wrong[1]);
	pthread_join(thread, NULL);
	CHECK_EQ(wrong[0] + wrong[1], 0);
}

TEST(freeing_nothing)
{
	filter_free(NULL);
}
