/*
 * flow_key.h - who talks to whom, without direction, and its keyed hash.
 *
 * The endpoint (address, port) that compares lower comes first, so both directions of a
 * connection make the same key; struct mos_pkt.from_hi remembers which one sent.
 * Words hold the packet's bytes as they lie (network order); they are compared, never computed
 * with.  IPv4 uses addr word 0 of each endpoint only.
 *
 * The hash is multilinear (pair-wise multiply-shift) over 64-bit secrets: for two different keys
 * chosen without knowing the secrets the chance to collide is 2^-31, whoever chose the keys.
 * (Thorup, "High Speed Hashing for Integers and Strings", section 3.)
 */
#ifndef MOS_FLOW_KEY_H
#define MOS_FLOW_KEY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
	FLOW_KEY_WORDS = 11
};

struct flow_key {
	uint32_t lo[4], hi[4]; /* addresses; IPv4 in word 0 */
	uint32_t ports;        /* lo's port in the first two bytes, hi's in the last two */
	uint32_t scope;        /* 4 or 6, and the VLAN id << 8 when asked for */
	uint32_t vni;          /* tunnel id, when asked for */
};

struct flow_hash_secret {
	uint64_t word[FLOW_KEY_WORDS + 1];
};

/* Fill from a seed (tests, replay) or, with seed NULL, from getrandom(2). */
void flow_hash_secret_init(struct flow_hash_secret *secret, const uint64_t *seed);

static inline bool flow_key_equal(const struct flow_key *a, const struct flow_key *b)
{
	uint64_t x[5], y[5];

	memcpy(x, a, sizeof x); /* a call of memcmp() for 44 bytes costs more than the compare */
	memcpy(y, b, sizeof y);
	return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]) | (a->vni ^ b->vni)) == 0;
}

static inline bool flow_key_is_ipv6(const struct flow_key *key)
{
	return (key->scope & 0xff) == 6;
}

static inline uint32_t flow_key_hash(const struct flow_key *key, const struct flow_hash_secret *secret)
{
	const uint64_t *s = secret->word;
	uint64_t h = s[11];

	h += s[0] * key->lo[0] + s[1] * key->hi[0] + s[2] * key->ports + s[3] * key->scope + s[4] * key->vni;
	if (flow_key_is_ipv6(key))
		for (int i = 1; i < 4; i++)
			h += s[3 + 2 * i] * key->lo[i] + s[4 + 2 * i] * key->hi[i];
	return (uint32_t)(h >> 32);
}

#endif
