/*
 * check.h - the whole unit-test framework: tests that register themselves, checks that go on.
 *
 * A test program includes this once and writes
 *
 *	TEST(what_it_shows)
 *	{
 *		CHECK(condition);
 *		CHECK_EQ(value, expected);
 *	}
 *
 * main() is in here: it runs the tests in the order of the file, prints a line for each failed
 * check and "N passed, N failed" at the end (N counts tests), and returns 1 if any failed.
 * Arguments are substrings of test names; with none, every test runs.
 *
 * A failed CHECK lets the test go on; REQUIRE leaves it (it returns from a void function).
 * CHECK_EQ compares integers of any width and sign as 64 bits; CHECK_STR compares strings,
 * CHECK_MEM bytes, CHECK_HAS looks for a substring.
 * Threads: none; one test at a time.
 */
#ifndef MOS_TESTS_CHECK_H
#define MOS_TESTS_CHECK_H

#include <stdio.h>
#include <string.h>

enum {
	CHECK_MAX_TESTS = 1024
};

struct check_test {
	const char *name;
	void (*run)(void);
};

static struct check_test check_tests[CHECK_MAX_TESTS];
static int check_test_count;
static int check_failures; /* failed checks of the running test */

static inline int check_report(int ok, const char *file, int line, const char *text)
{
	if (!ok) {
		check_failures++;
		printf("%s:%d: not true: %s\n", file, line, text);
	}
	return ok;
}

static inline int check_eq(long long a, long long b, const char *file, int line, const char *text)
{
	if (a == b)
		return 1;
	check_failures++;
	printf("%s:%d: %s: %lld (0x%llx), not %lld (0x%llx)\n", file, line, text, a, (unsigned long long)a, b,
	       (unsigned long long)b);
	return 0;
}

static inline int check_str(const char *a, const char *b, const char *file, int line, const char *text)
{
	if (a != NULL && b != NULL && strcmp(a, b) == 0)
		return 1;
	check_failures++;
	printf("%s:%d: %s: \"%s\", not \"%s\"\n", file, line, text, a ? a : "(null)", b ? b : "(null)");
	return 0;
}

static inline int check_has(const char *text, const char *part, const char *file, int line)
{
	if (text != NULL && strstr(text, part) != NULL)
		return 1;
	check_failures++;
	printf("%s:%d: no \"%s\" in \"%s\"\n", file, line, part, text ? text : "(null)");
	return 0;
}

static inline int check_mem(const void *a, const void *b, size_t len, const char *file, int line, const char *text)
{
	const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;

	for (size_t i = 0; i < len; i++) {
		if (x[i] == y[i])
			continue;
		check_failures++;
		printf("%s:%d: %s: byte %zu of %zu is %02x, not %02x\n", file, line, text, i, len, x[i], y[i]);
		return 0;
	}
	return 1;
}

#define CHECK(cond) check_report(!!(cond), __FILE__, __LINE__, #cond)
#define CHECK_EQ(a, b) check_eq((long long)(a), (long long)(b), __FILE__, __LINE__, #a " == " #b)
#define CHECK_STR(a, b) check_str((a), (b), __FILE__, __LINE__, #a " == " #b)
#define CHECK_HAS(text, part) check_has((text), (part), __FILE__, __LINE__)
#define CHECK_MEM(a, b, len) check_mem((a), (b), (len), __FILE__, __LINE__, #a " == " #b)
#define REQUIRE(cond)             \
	do {                      \
		if (!CHECK(cond)) \
			return;   \
	} while (0)

#define TEST(name)                                                      \
	static void test_##name(void);                                  \
	__attribute__((constructor)) static void check_add_##name(void) \
	{                                                               \
		check_add(#name, test_##name);                          \
	}                                                               \
	static void test_##name(void)

static inline void check_add(const char *name, void (*run)(void))
{
	if (check_test_count < CHECK_MAX_TESTS)
		check_tests[check_test_count++] = (struct check_test){name, run};
}

static inline int check_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(name, argv[i]) != NULL)
			return 1;
	return argc < 2;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0); /* what was printed survives a sanitizer's abort */
	for (int i = 0; i < check_test_count; i++) {
		if (!check_wanted(check_tests[i].name, argc, argv))
			continue;
		check_failures = 0;
		check_tests[i].run();
		if (check_failures > 0) {
			failed++;
			printf("FAILED %s\n", check_tests[i].name);
		} else {
			passed++;
		}
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}

#endif
