/*
 * capture.c - one or several capture files as one sequence of packets in time order.
 *
 * capture_internal.h says how the work is shared.  The port numbers of a merge do not depend on
 * how much a read(2) returned: each file is one packet ahead, never more.
 */
#include <stdio.h>

#include "capture_internal.h"

enum {
	BUFFER_BYTES = 1024 * 1024,
	BUFFER_BYTES_MIN = 64 * 1024,
	MERGE_BYTES = 64 * 1024 * 1024, /* for the buffers of all files of a merge */
	MAGIC_BYTES = 4
};

struct capture {
	struct capture_file *files;
	uint32_t count;
	uint32_t started; /* merging: files that have shown their first packet */
	uint32_t next_port;
	struct capture_file **heap; /* merging: files with a packet, the earliest at 0 */
	uint32_t heap_count;
	bool dry;    /* merging: heap[0] must be read on before its head is good */
	int broken;  /* merging: -errno of the first file that failed */
	int failure; /* -errno, for good */
	char error[512];
};

static int open_file(struct capture *capture, uint32_t index, const char *path, char *err, size_t errlen)
{
	struct capture_file *file = &capture->files[index];
	int error = byte_source_open(&file->source, path, err, errlen);

	if (error < 0)
		return error;
	file->name = byte_source_name(file->source);
	file->index = index;
	file->next_port = &capture->next_port;
	file->cap = BUFFER_BYTES;
	if (capture->count > MERGE_BYTES / BUFFER_BYTES)
		file->cap = MERGE_BYTES / capture->count;
	if (file->cap < BUFFER_BYTES_MIN)
		file->cap = BUFFER_BYTES_MIN;
	file->buf = malloc(file->cap);
	error = file->buf != NULL ? capture_file_open(file, capture->count > 1)
	                          : capture_file_fail(file, ENOMEM, "no memory to read it");
	if (error < 0)
		snprintf(err, errlen, "%s", file->error);
	return error;
}

static int check_paths(const char *const *paths, int count, char *err, size_t errlen)
{
	int from_stdin = 0;

	for (int i = 0; i < count; i++)
		from_stdin += strcmp(paths[i], "-") == 0;
	if (count > 0 && from_stdin <= 1)
		return 0;
	snprintf(err, errlen,
	         count <= 0 ? "no capture file was named" : "standard input (-) was named twice; it can be read once");
	return -EINVAL;
}

int capture_open(struct capture **result, const char *const *paths, int count, char *err, size_t errlen)
{
	struct capture *capture;
	int error = check_paths(paths, count, err, errlen);

	*result = NULL;
	if (error < 0)
		return error;
	capture = calloc(1, sizeof *capture);
	if (capture != NULL) {
		capture->files = calloc((size_t)count, sizeof *capture->files);
		capture->heap = calloc((size_t)count, sizeof *capture->heap);
	}
	if (capture == NULL || capture->files == NULL || capture->heap == NULL) {
		snprintf(err, errlen, "no memory to open %d capture files", count);
		capture_close(capture);
		return -ENOMEM;
	}
	capture->count = (uint32_t)count;
	for (uint32_t i = 0; i < capture->count && error == 0; i++)
		error = open_file(capture, i, paths[i], err, errlen);
	if (error < 0) {
		capture_close(capture);
		return error;
	}
	*result = capture;
	return 0;
}

void capture_close(struct capture *capture)
{
	if (capture == NULL)
		return;
	for (uint32_t i = 0; capture->files != NULL && i < capture->count; i++) {
		byte_source_close(capture->files[i].source);
		free(capture->files[i].interfaces);
		free(capture->files[i].buf);
	}
	free(capture->files);
	free(capture->heap);
	free(capture);
}

/* ---- merging -------------------------------------------------------------------------------- */

static inline bool earlier(const struct capture_file *a, const struct capture_file *b)
{
	if (a->head.time_ns != b->head.time_ns)
		return a->head.time_ns < b->head.time_ns;
	return a->index < b->index;
}

static void sift_down(struct capture *capture)
{
	struct capture_file **heap = capture->heap, *file = heap[0];
	uint32_t at = 0;

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= capture->heap_count)
			break;
		if (child + 1 < capture->heap_count && earlier(heap[child + 1], heap[child]))
			child++;
		if (!earlier(heap[child], file))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = file;
}

static void push(struct capture *capture, struct capture_file *file)
{
	uint32_t at = capture->heap_count++;

	while (at > 0 && earlier(file, capture->heap[(at - 1) / 2])) {
		capture->heap[at] = capture->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	capture->heap[at] = file;
}

/* The first failure is told last, after the packets of the unbroken files. */
static void note_failure(struct capture *capture, const struct capture_file *file)
{
	if (capture->broken != 0)
		return;
	capture->broken = file->failure;
	memcpy(capture->error, file->error, sizeof capture->error);
}

/* Bring every file to its next packet.  0, or -EAGAIN while a pipe has none. */
static int refill(struct capture *capture)
{
	while (capture->started < capture->count) {
		struct capture_file *file = &capture->files[capture->started];
		int got = capture_file_read(file, &file->head, 1);

		if (got == -EAGAIN || got == -EINTR)
			return -EAGAIN;
		if (got < 0)
			note_failure(capture, file);
		else if (got > 0)
			push(capture, file);
		capture->started++;
	}
	if (capture->dry) {
		int got = capture_file_read(capture->heap[0], &capture->heap[0]->head, 1);

		if (got == -EAGAIN || got == -EINTR)
			return -EAGAIN;
		if (got < 0)
			note_failure(capture, capture->heap[0]);
		if (got <= 0)
			capture->heap[0] = capture->heap[--capture->heap_count];
		capture->dry = false;
		if (capture->heap_count > 0)
			sift_down(capture);
	}
	return 0;
}

static int merge_read(struct capture *capture, struct mos_pkt *pkt, unsigned max)
{
	unsigned count = 0;
	int error = refill(capture);

	if (error < 0)
		return error;
	while (count < max && capture->heap_count > 0) {
		struct capture_file *file = capture->heap[0];
		struct mos_pkt *to = &pkt[count++];

		to->frame = file->head.frame;
		to->time_ns = file->head.time_ns;
		to->caplen = file->head.caplen;
		to->wirelen = file->head.wirelen;
		to->linktype = file->head.linktype;
		to->port = file->head.port;
		to->mbuf = NULL;
		if (file->failure != 0 || capture_file_walk(file, &file->head, 1) == 0) {
			capture->dry = true; /* to read on would move frames of this burst */
			break;
		}
		sift_down(capture);
	}
	return count > 0 ? (int)count : capture->broken;
}

int capture_read(struct capture *capture, struct mos_pkt *pkt, unsigned max)
{
	int got;

	if (capture->failure != 0)
		return capture->failure;
	if (capture->count > 1) {
		got = merge_read(capture, pkt, max);
	} else {
		got = capture_file_read(capture->files, pkt, max);
		if (got < 0 && got != -EAGAIN && got != -EINTR)
			note_failure(capture, capture->files);
	}
	if (got == -EINTR)
		got = -EAGAIN;
	if (got < 0 && got != -EAGAIN)
		capture->failure = got;
	return got;
}

/* ---- what it says about itself ---------------------------------------------------------------- */

const char *capture_error(const struct capture *capture)
{
	return capture->error;
}

uint64_t capture_position(const struct capture *capture)
{
	uint64_t position = 0;

	for (uint32_t i = 0; i < capture->count; i++) {
		const struct capture_file *file = &capture->files[i];

		position += byte_source_position(file->source);
		if (byte_source_packing(file->source) == NULL)
			position -= file->end - file->start;
	}
	return position;
}

uint64_t capture_size(const struct capture *capture)
{
	uint64_t size = 0;

	for (uint32_t i = 0; i < capture->count; i++) {
		uint64_t one = byte_source_size(capture->files[i].source);

		if (one == 0)
			return 0;
		size += one;
	}
	return size;
}
