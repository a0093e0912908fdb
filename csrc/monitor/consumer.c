/* consumer.c - see consumer.h. */
#include "consumer.h"

#include "digest.h"

void consumer_bytes(struct flow *flow, int side, const uint8_t *data, size_t len)
{
	struct half_cold *cold;

	if (!flow_cold(flow))
		return;
	cold = &flow->cold->half[!side];
	if (!cold->digest)
		cold->digest = digest_new();
	if (cold->digest)
		digest_add(cold->digest, data, len);
}

void consumer_stream(struct flow *flow, int side, const struct stream *stream, int64_t at)
{
	while (at < stream->next) {
		const uint8_t *data;
		size_t len = stream_view(stream, at, stream->next, &data);

		if (len)
			consumer_bytes(flow, side, data, len);
		at += len ? (int64_t)len : (int64_t)stream_missing(stream, at, stream->next);
	}
}
