/*
 * digest.h - hashes from libcrypto: SHA-256 of what a direction delivers, and the Community ID.
 *
 * Threads: none shared.  Ownership: a digest belongs to its flow's cold record.
 */
#ifndef MOS_MONITOR_DIGEST_H
#define MOS_MONITOR_DIGEST_H

#include "../flow/flow.h"

enum {
	DIGEST_TEXT = 65,
	COMMUNITY_ID_TEXT = 32
};

/* A running SHA-256; NULL when memory is out. */
void *digest_new(void);
void digest_add(void *digest, const uint8_t *data, size_t len);
/* Lower-case hex of the bytes so far; NULL = of no bytes at all. */
void digest_text(void *digest, char text[DIGEST_TEXT]);
void digest_free(void *digest);

/* Community ID 1.0 (corelight/community-id-spec), seed 0. */
void community_id(const struct flow_key *key, char text[COMMUNITY_ID_TEXT]);

#endif
