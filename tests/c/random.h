/*
 * random.h - pseudo-random numbers that can be had again: random_begin() prints the seed, and
 * MOS_TEST_SEED=n in the environment sets it.
 */
#ifndef MOS_TESTS_RANDOM_H
#define MOS_TESTS_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static uint64_t random_state = 1;

static inline void random_begin(const char *what)
{
	const char *text = getenv("MOS_TEST_SEED");
	uint64_t seed = 0;

	if (text)
		seed = strtoull(text, NULL, 10);
	else if (getrandom(&seed, 4, 0) != 4)
		seed = 20240101;
	printf("%s: MOS_TEST_SEED=%llu\n", what, (unsigned long long)seed);
	random_state = seed * 0x9e3779b97f4a7c15u + 0x1234567;
}

/* splitmix64 */
static inline uint64_t random_next(void)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 .. limit - 1 */
static inline uint64_t random_below(uint64_t limit)
{
	return random_next() % limit;
}

static inline int64_t random_between(int64_t low, int64_t high)
{
	return low + (int64_t)random_below((uint64_t)(high - low + 1));
}

static inline int random_chance(unsigned percent)
{
	return random_below(100) < percent;
}

#endif
