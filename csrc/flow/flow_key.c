/* flow_key.c - the secrets of the flow hash. */
#include "flow_key.h"

#include <sys/random.h>

/* splitmix64 (Steele, Lea, Flood 2014): spreads one seed over all secrets, for replay only. */
static uint64_t spread(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void flow_hash_secret_init(struct flow_hash_secret *secret, const uint64_t *seed)
{
	uint64_t state = seed ? *seed : 0;

	if (!seed && getrandom(secret->word, sizeof secret->word, 0) == (ssize_t)sizeof secret->word)
		return;
	for (int i = 0; i <= FLOW_KEY_WORDS; i++)
		secret->word[i] = spread(&state);
}
