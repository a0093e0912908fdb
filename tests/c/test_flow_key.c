/* test_flow_key.c - the keyed hash of flows. */
// sources: flow/flow_key.c
#include <string.h>

#include "check.h"
#include "flow/flow_key.h"
#include "random.h"

static struct flow_key ipv4_key(uint32_t lo, uint32_t hi, uint32_t ports)
{
	struct flow_key key = {.ports = ports, .scope = 4};

	key.lo[0] = lo;
	key.hi[0] = hi;
	return key;
}

TEST(a_seed_gives_the_same_hashes_every_time)
{
	uint64_t seed = 5, other = 6;
	struct flow_hash_secret a, b, c;
	struct flow_key key = ipv4_key(1, 2, 3);

	flow_hash_secret_init(&a, &seed);
	flow_hash_secret_init(&b, &seed);
	flow_hash_secret_init(&c, &other);
	CHECK_MEM(&a, &b, sizeof a);
	CHECK_EQ(flow_key_hash(&key, &a), flow_key_hash(&key, &b));
	CHECK(memcmp(&a, &c, sizeof a) != 0);
	for (int i = 0; i <= FLOW_KEY_WORDS; i++)
		for (int j = 0; j < i; j++)
			CHECK(a.word[i] != a.word[j]);
}

TEST(without_a_seed_secrets_differ)
{
	struct flow_hash_secret a, b;

	memset(&a, 0, sizeof a);
	memset(&b, 0, sizeof b);
	flow_hash_secret_init(&a, NULL);
	flow_hash_secret_init(&b, NULL);
	for (int i = 0; i <= FLOW_KEY_WORDS; i++)
		CHECK(a.word[i] != b.word[i]);
}

TEST(every_word_makes_another_key)
{
	const uint64_t seed = 9;
	struct flow_hash_secret secret;

	flow_hash_secret_init(&secret, &seed);
	for (uint32_t bit = 0; bit < 8 * sizeof(struct flow_key); bit++) {
		struct flow_key a = {.scope = 6}, b = a;

		((uint8_t *)&b)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CHECK(!flow_key_equal(&a, &b));
		CHECK(flow_key_equal(&a, &a));
		if (flow_key_is_ipv6(&b))
			CHECK(flow_key_hash(&a, &secret) != flow_key_hash(&b, &secret));
	}
}

/* Chi-square of keys over 1024 buckets, by the low bits that the table uses. */
static double unevenness(struct flow_key (*make)(uint32_t), const struct flow_hash_secret *secret)
{
	enum {
		KEYS = 102400
	};
	static uint32_t bucket[1024];
	double sum = 0;

	memset(bucket, 0, sizeof bucket);
	for (uint32_t i = 0; i < KEYS; i++) {
		struct flow_key key = make(i);

		bucket[flow_key_hash(&key, secret) % 1024]++;
	}
	for (int i = 0; i < 1024; i++)
		sum += (bucket[i] - 100.0) * (bucket[i] - 100.0) / 100.0;
	return sum;
}

static struct flow_key by_port(uint32_t i)
{
	return ipv4_key(0x0100000a, 0x0200000a, i % 65536 << 16 | 80 << 8 | (i >> 16));
}

static struct flow_key by_address(uint32_t i)
{
	return ipv4_key(__builtin_bswap32(0x0a000000 + i), 0x0200000a, 0x50009c40);
}

static struct flow_key by_both_addresses(uint32_t i)
{
	return ipv4_key(__builtin_bswap32(0x0a000000 + i % 320), __builtin_bswap32(0xc0a80000 + i / 320), 0x50009c40);
}

static struct flow_key by_ipv6_suffix(uint32_t i)
{
	struct flow_key key = {.lo = {0xb80d0120}, .hi = {0xb80d0120}, .ports = 7, .scope = 6};

	key.lo[3] = __builtin_bswap32(i);
	return key;
}

/*
 * Arithmetic progressions may come out more even than chance under a multiplying hash, never much
 * less even: 1023 degrees of freedom, so that 2000 would be chance once in 10^60.
 */
TEST(usual_traffic_is_spread)
{
	struct flow_key (*const makers[])(uint32_t) = {by_port, by_address, by_both_addresses, by_ipv6_suffix};
	int bad[4] = {0};

	for (uint64_t seed = 0; seed < 12; seed++) {
		struct flow_hash_secret secret;

		flow_hash_secret_init(&secret, &seed);
		for (int i = 0; i < 4; i++)
			bad[i] += unevenness(makers[i], &secret) > 2000;
	}
	for (int i = 0; i < 4; i++)
		CHECK(bad[i] <= 3);
}

TEST(collisions_are_as_rare_as_chance)
{
	const uint64_t seed = 11;
	struct flow_hash_secret secret;
	uint32_t same = 0;

	random_begin("flow key");
	flow_hash_secret_init(&secret, &seed);
	for (int i = 0; i < 2000000; i++) {
		struct flow_key a = ipv4_key((uint32_t)random_next(), (uint32_t)random_next(), (uint32_t)random_next()),
				b = a;

		b.ports ^= 1u << random_below(32);
		same += flow_key_hash(&a, &secret) == flow_key_hash(&b, &secret);
	}
	CHECK_EQ(same, 0);
}
