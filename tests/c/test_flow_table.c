/* test_flow_table.c - find, create and remove flows: a million of them, churn, growth, collisions. */
// sources: flow/flow_table.c flow/flow_key.c tcp/ranges.c live.c
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "flow/flow_table.h"
#include "live.h"
#include "random.h"

static const uint64_t seed = 7;

/* The key of connection number i; every i has another one. */
static struct flow_key key_of(uint32_t i)
{
	struct flow_key key = {.scope = i & 1 ? 6 : 4};

	key.lo[0] = 0x0a000000 + i / 2;
	key.hi[0] = 0xc0a80000;
	key.ports = 0x1f900050;
	if (i & 1)
		key.hi[3] = i;
	return key;
}

static uint32_t hash_of(const struct flow_table *table, uint32_t i)
{
	struct flow_key key = key_of(i);

	return flow_key_hash(&key, &table->secret);
}

static struct flow *create(struct flow_table *table, uint32_t i)
{
	struct flow_key key = key_of(i);

	return flow_table_create(table, &key, flow_key_hash(&key, &table->secret));
}

static struct flow *find(struct flow_table *table, uint32_t i)
{
	struct flow_key key = key_of(i);

	return flow_table_find(table, &key, flow_key_hash(&key, &table->secret));
}

static void finish(struct flow_table *table)
{
	flow_table_free(table);
	CHECK_EQ(live_objects.flow_chunks, 0);
	CHECK_EQ(live_objects.ranges, 0);
}

TEST(a_new_flow_is_empty_and_known)
{
	struct flow_table table;
	struct flow *flow;
	struct flow_key key = key_of(1);

	CHECK_EQ(flow_table_init(&table, 10, &seed), 0);
	CHECK(find(&table, 1) == NULL);
	CHECK(!flow_in_use(&table, 0));
	flow = create(&table, 1);
	REQUIRE(flow != NULL);
	CHECK(flow_key_equal(&flow->key, &key));
	CHECK_EQ(flow->number, 0);
	CHECK_EQ(flow->serial, 1);
	CHECK_EQ(flow->generation, 1);
	CHECK_EQ(flow->next, FLOW_NONE);
	CHECK_EQ(flow->prev, FLOW_NONE);
	CHECK(flow->cold == NULL);
	CHECK(flow->set == NULL);
	CHECK_EQ(flow->flags, 0);
	CHECK_EQ(flow->half[0].snd_max, 0);
	CHECK(find(&table, 1) == flow);
	CHECK(find(&table, 2) == NULL);
	CHECK(flow_in_use(&table, 0));
	CHECK(flow_at(&table, 0) == flow);
	CHECK_EQ((uintptr_t)flow % 64, 0); /* five lines, not six */
	finish(&table);
}

TEST(a_number_used_again_has_another_generation)
{
	struct flow_table table;

	CHECK_EQ(flow_table_init(&table, 10, &seed), 0);
	for (uint32_t life = 1; life <= 100; life++) {
		struct flow *flow = create(&table, life);

		REQUIRE(flow != NULL);
		CHECK_EQ(flow->number, 0);
		CHECK_EQ(flow->generation, life);
		CHECK_EQ(flow->serial, life);
		CHECK_EQ(flow->flags, 0);
		flow->flags = 0xff;
		flow->half[1].isn = 77;
		CHECK(flow_cold(flow) != NULL);
		CHECK_EQ(ranges_append(&flow->cold->half[0].holes, 1, 2, 0), 0);
		flow_table_remove(&table, flow);
		CHECK(find(&table, life) == NULL);
		CHECK(!flow_in_use(&table, 0));
		CHECK_EQ(table.count, 0);
	}
	finish(&table);
}

TEST(the_cap_holds)
{
	struct flow_table table;

	CHECK_EQ(flow_table_init(&table, 3000, &seed), 0);
	for (uint32_t i = 0; i < 3000; i++)
		CHECK(create(&table, i) != NULL);
	CHECK(create(&table, 3000) == NULL);
	CHECK(find(&table, 3000) == NULL);
	CHECK_EQ(table.count, 3000);
	flow_table_remove(&table, find(&table, 1234));
	CHECK(create(&table, 3000) != NULL);
	CHECK(create(&table, 3001) == NULL);
	finish(&table);
	CHECK_EQ(flow_table_init(&table, 0, &seed), 0);
	CHECK(create(&table, 0) == NULL);
	finish(&table);
}

TEST(a_million_flows)
{
	enum {
		MILLION = 1000000
	};
	struct flow_table table;
	uint32_t moved = 0, wrong = 0;

	CHECK_EQ(flow_table_init(&table, MILLION, &seed), 0);
	for (uint32_t i = 0; i < MILLION; i++) {
		struct flow *flow = create(&table, i);

		if (!flow || flow->number != i || flow->serial != i + 1)
			wrong++;
		/* growth is spread: no insertion moves more than a few buckets */
		if (table.old.bucket && table.moved > moved + 8)
			wrong++;
		moved = table.old.bucket ? table.moved : 0;
	}
	CHECK_EQ(wrong, 0);
	for (uint32_t i = 0; i < MILLION; i++) {
		struct flow *flow = find(&table, i);

		wrong += !flow || flow->number != i;
		wrong += i < MILLION / 10 && find(&table, MILLION + i) != NULL;
	}
	CHECK_EQ(wrong, 0);
	CHECK((table.now.mask + 1ull) * BUCKET_ENTRIES < 4ull * MILLION); /* the index did not run away */
	for (uint32_t i = 0; i < MILLION; i += 2)
		flow_table_remove(&table, flow_at(&table, i));
	for (uint32_t i = 0; i < MILLION; i++)
		wrong += (find(&table, i) != NULL) != (i % 2 == 1);
	CHECK_EQ(wrong, 0);
	CHECK_EQ(table.count, MILLION / 2);
	finish(&table);
}

/* ---- against a model ------------------------------------------------------------------------------------------- */

enum {
	KEYS = 30000
};

TEST(random_lives_agree_with_the_model)
{
	static uint64_t serial[KEYS]; /* 0 = not there */
	uint32_t live = 0;
	struct flow_table table;

	random_begin("flow table");
	memset(serial, 0, sizeof serial);
	CHECK_EQ(flow_table_init(&table, KEYS, &seed), 0);
	for (uint32_t step = 0; step < 1000000 && !check_failures; step++) {
		uint32_t i = (uint32_t)random_below(KEYS);
		struct flow *flow = find(&table, i);

		CHECK_EQ(flow ? flow->serial : 0, serial[i]);
		/* grow for a while, then shrink, and again */
		if (!flow && random_chance(step / 200000 % 2 ? 20 : 90)) {
			flow = create(&table, i);
			REQUIRE(flow != NULL);
			serial[i] = flow->serial;
			live++;
		} else if (flow && random_chance(step / 200000 % 2 ? 90 : 20)) {
			flow_table_remove(&table, flow);
			serial[i] = 0;
			live--;
		}
		CHECK_EQ(table.count, live);
	}
	for (uint32_t i = 0; i < KEYS; i++)
		CHECK_EQ(find(&table, i) != NULL, serial[i] != 0);
	CHECK_EQ(table.now.entries + table.old.entries, live);
	finish(&table);
}

/* ---- churn --------------------------------------------------------------------------------------------------------- */

/* Buckets that a search for a key that is not there looks at; more than all means it never ends. */
static uint32_t search_length(const struct flow_index *index, uint32_t hash)
{
	uint32_t length = 1;

	while (index->bucket[(hash + length - 1) & index->mask].used >> 31 && length <= index->mask + 1)
		length++;
	return length;
}

static void churn(struct flow_table *table, uint32_t live, uint32_t births)
{
	uint32_t *key = calloc(live, sizeof *key), next = 0;

	for (; next < live; next++) {
		key[next] = next;
		create(table, next);
	}
	for (; next < live + births && !check_failures; next++) {
		uint32_t victim = (uint32_t)random_below(live);
		struct flow *flow;

		if (next % 64 == 0) {
			CHECK(search_length(&table->now, hash_of(table, next)) <= 64);
			CHECK(!table->old.bucket || search_length(&table->old, hash_of(table, next)) <= 64);
		}
		if (check_failures)
			break;
		flow = find(table, key[victim]);
		if (!CHECK(flow != NULL))
			break;
		flow_table_remove(table, flow);
		key[victim] = next;
		CHECK(create(table, next) != NULL);
	}
	free(key);
}

TEST(churn_does_not_degrade)
{
	static const uint32_t lives[] = {100, 3000, 4000, 4500, 5000, 5300};

	random_begin("churn");
	for (size_t n = 0; n < sizeof lives / sizeof *lives && !check_failures; n++) {
		struct flow_table table;
		uint64_t sum = 0;

		CHECK_EQ(flow_table_init(&table, 100000, &seed), 0);
		churn(&table, lives[n], 200000);
		for (uint32_t i = 0; i < 10000; i++)
			sum += search_length(&table.now, (uint32_t)random_next());
		CHECK(sum < 20000);
		if (check_failures)
			printf("%u flows: %u of %u buckets were passed\n", lives[n], table.now.passed,
			       table.now.mask + 1);
		CHECK(table.now.mask < 4096);
		finish(&table);
	}
}

/* ---- collisions ------------------------------------------------------------------------------------------------------ */

TEST(equal_hashes_are_told_apart_by_key)
{
	enum {
		SAME = 3000
	};
	struct flow_table table;
	uint32_t wrong = 0;

	CHECK_EQ(flow_table_init(&table, SAME, &seed), 0);
	memset(&table.secret, 0, sizeof table.secret);
	table.secret.word[11] = 0xffffffffull << 32; /* every key has this hash; the last bucket is full first */
	for (uint32_t i = 0; i < SAME; i++)
		wrong += create(&table, i) == NULL;
	for (uint32_t i = 0; i < SAME; i++)
		wrong += !find(&table, i) || find(&table, i)->number != i;
	wrong += find(&table, SAME) != NULL;
	for (uint32_t i = 0; i < SAME; i += 3)
		flow_table_remove(&table, find(&table, i));
	for (uint32_t i = 0; i < SAME; i++)
		wrong += (find(&table, i) != NULL) != (i % 3 != 0);
	for (uint32_t i = 0; i < SAME; i += 3)
		wrong += create(&table, i) == NULL;
	for (uint32_t i = 0; i < SAME; i++)
		wrong += find(&table, i) == NULL;
	CHECK_EQ(wrong, 0);
	CHECK_EQ(table.now.entries + table.old.entries, SAME);
	finish(&table);
}

TEST(side_of_a_packet)
{
	struct flow flow = {0};

	CHECK_EQ(flow_side_of(&flow, false), MOS_SIDE_CLI);
	CHECK_EQ(flow_side_of(&flow, true), MOS_SIDE_SVR);
	flow.flags = FLOW_CLIENT_HI;
	CHECK_EQ(flow_side_of(&flow, true), MOS_SIDE_CLI);
	CHECK_EQ(flow_side_of(&flow, false), MOS_SIDE_SVR);
}

TEST(prefetching_touches_nothing)
{
	struct flow_table table;

	CHECK_EQ(flow_table_init(&table, 100000, &seed), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		flow_table_prefetch_bucket(&table, hash_of(&table, i));
		flow_table_prefetch_flow(&table, hash_of(&table, i));
		create(&table, i);
		flow_table_prefetch_bucket(&table, hash_of(&table, i));
		flow_table_prefetch_flow(&table, hash_of(&table, i));
	}
	CHECK_EQ(table.count, 20000);
	finish(&table);
}
