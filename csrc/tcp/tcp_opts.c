/* tcp_opts.c - see tcp_opts.h. */
#include "tcp_opts.h"

#include "../flow/flow.h"
#include "../packet/bytes.h"

enum {
	OPT_END = 0,
	OPT_NOP = 1,
	OPT_MSS = 2,
	OPT_WSCALE = 3,
	OPT_SACK_PERMITTED = 4,
	OPT_TIMESTAMP = 8,
	OPT_MD5 = 19
};
enum {
	MAX_WSCALE = 14
};

static void take_option(const uint8_t *option, uint8_t len, struct tcp_opts *opts)
{
	if (option[0] == OPT_MSS && len == 4)
		opts->mss = load_be16(option + 2);
	else if (option[0] == OPT_WSCALE && len == 3)
		opts->wscale = option[2] > MAX_WSCALE ? MAX_WSCALE : option[2];
	else if (option[0] == OPT_SACK_PERMITTED && len == 2)
		opts->sack_permitted = true;
	else if (option[0] == OPT_TIMESTAMP && len == 10) {
		opts->timestamps = true;
		opts->ts_value = load_be32(option + 2);
		opts->ts_echo = load_be32(option + 6);
	} else if (option[0] == OPT_MD5) {
		opts->md5 = true;
	}
}

void tcp_opts_parse(const uint8_t *option, uint32_t len, struct tcp_opts *opts)
{
	*opts = (struct tcp_opts){.wscale = WSCALE_NONE};
	while (len && option[0] != OPT_END) {
		uint8_t size;

		if (option[0] == OPT_NOP) {
			option++;
			len--;
			continue;
		}
		if (len < 2 || option[1] < 2 || option[1] > len) {
			opts->malformed = true;
			return;
		}
		size = option[1];
		take_option(option, size, opts);
		option += size;
		len -= size;
	}
}

bool tcp_opts_timestamp(const uint8_t *option, uint32_t len, uint32_t *value)
{
	struct tcp_opts opts;

	if (len < 10)
		return false;
	if (len == 12 && load_be32(option) == 0x0101080a) { /* NOP NOP timestamp alone: RFC 7323 appendix A */
		*value = load_be32(option + 4);
		return true;
	}
	tcp_opts_parse(option, len, &opts);
	*value = opts.ts_value;
	return opts.timestamps;
}
