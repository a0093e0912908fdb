/* digest.c - see digest.h. */
#include "digest.h"

#include <openssl/evp.h>
#include <string.h>

void *digest_new(void)
{
	EVP_MD_CTX *digest = EVP_MD_CTX_new();

	if (digest && !EVP_DigestInit_ex(digest, EVP_sha256(), NULL)) {
		EVP_MD_CTX_free(digest);
		return NULL;
	}
	return digest;
}

void digest_add(void *digest, const uint8_t *data, size_t len)
{
	EVP_DigestUpdate(digest, data, len);
}

void digest_text(void *digest, char text[DIGEST_TEXT])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int len = 32;

	if (digest) {
		EVP_MD_CTX *copy = EVP_MD_CTX_new(); /* the stream may go on */

		memset(sum, 0, sizeof sum);
		if (copy && EVP_MD_CTX_copy_ex(copy, digest))
			EVP_DigestFinal_ex(copy, sum, &len);
		EVP_MD_CTX_free(copy);
	} else {
		EVP_Digest("", 0, sum, &len, EVP_sha256(), NULL);
	}
	for (unsigned int i = 0; i < 32; i++) {
		text[2 * i] = hex[sum[i] >> 4];
		text[2 * i + 1] = hex[sum[i] & 15];
	}
	text[64] = '\0';
}

void digest_free(void *digest)
{
	EVP_MD_CTX_free(digest);
}

void community_id(const struct flow_key *key, char text[COMMUNITY_ID_TEXT])
{
	size_t addr = flow_key_is_ipv6(key) ? 16 : 4;
	unsigned char data[2 + 32 + 2 + 4] = {0}, sum[EVP_MAX_MD_SIZE];
	unsigned int len;

	/* the key is ordered as the specification wants: lower address, then lower port, first */
	memcpy(data + 2, key->lo, addr);
	memcpy(data + 2 + addr, key->hi, addr);
	data[2 + 2 * addr] = 6; /* TCP; one byte of padding follows */
	memcpy(data + 2 + 2 * addr + 2, &key->ports, 4);
	EVP_Digest(data, 2 + 2 * addr + 2 + 4, sum, &len, EVP_sha1(), NULL);
	memcpy(text, "1:", 2);
	EVP_EncodeBlock((unsigned char *)text + 2, sum, 20);
}
