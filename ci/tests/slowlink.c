/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * slowlink DEVICE DEVICE - a bad cable between two network devices: every frame that comes in on
 * one goes out on the other, late, or not at all.
 *
 * What netem does, for kernels that have none.  Lines on standard input say how bad, from now on:
 * "DELAY_MS LOSS_PERCENT"; 100 is a cable that was cut, and no end of it can tell.  At first, and
 * when standard input ends, it stays as it was: 0 0.
 *
 * Frames keep the offloads that veth pairs use among themselves (checksums yet to be made, segments
 * yet to be cut): the header in front of each says which, and goes along.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 68 << 10, QUEUED_MAX = 16 << 20 };

struct frame {
	struct frame *next;
	uint64_t due_ms;
	size_t len;
	char bytes[];
};

/* From one device to the other. */
struct lane {
	int in, out;
	struct frame *first, **last;
	size_t queued_bytes;
};

static unsigned delay_ms, loss_percent;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int die(const char *what)
{
	fprintf(stderr, "slowlink: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int device(const char *name)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq all = {.mr_type = PACKET_MR_PROMISC};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0), yes = 1;

	at.sll_ifindex = all.mr_ifindex = (int)if_nametoindex(name);
	if (fd < 0 || !at.sll_ifindex ||
		setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof(yes)) ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) ||
		setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) ||
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){8 << 20}, sizeof(int)) ||
		bind(fd, (struct sockaddr *)&at, sizeof(at)))
		die(name);
	return fd;
}

static void take_in(struct lane *l)
{
	static char buf[FRAME_MAX];
	struct frame *f;
	ssize_t n;

	while ((n = read(l->in, buf, sizeof(buf))) > 0) {
		if ((unsigned)(random() % 100) < loss_percent || l->queued_bytes > QUEUED_MAX)
			continue;
		f = malloc(sizeof(*f) + (size_t)n);
		if (!f)
			die("a frame");
		*f = (struct frame){.due_ms = now_ms() + delay_ms, .len = (size_t)n};
		memcpy(f->bytes, buf, (size_t)n);
		*l->last = f;
		l->last = &f->next;
		l->queued_bytes += f->len;
	}
}

/* In how many milliseconds to come again; -1: when there is a frame.  A link loses what cannot be
 * sent. */
static int put_out(struct lane *l)
{
	uint64_t now = now_ms();
	struct frame *f;

	while ((f = l->first) && f->due_ms <= now) {
		if (write(l->out, f->bytes, f->len) < 0 && errno == ENXIO)
			die("a device");
		l->first = f->next;
		if (!l->first)
			l->last = &l->first;
		l->queued_bytes -= f->len;
		free(f);
	}
	return f ? (int)(f->due_ms - now) : -1;
}

/* False when nobody will say anything more. */
static int listen_to(int fd)
{
	char line[64];
	ssize_t n = read(fd, line, sizeof(line) - 1);

	if (n <= 0)
		return 0;
	line[n] = 0;
	if (sscanf(line, "%u %u", &delay_ms, &loss_percent) != 2)
		fprintf(stderr, "slowlink: 'DELAY_MS LOSS_PERCENT' is wanted, not '%s'\n", line);
	return 1;
}

static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

int main(int argc, char **argv)
{
	struct lane there = {.last = &there.first}, back = {.last = &back.first};
	struct pollfd p[3] = {{.fd = 0, .events = POLLIN}};

	if (argc != 3)
		return fprintf(stderr, "usage: slowlink DEVICE DEVICE\n"), 2;
	there.in = back.out = device(argv[1]);
	there.out = back.in = device(argv[2]);
	p[1] = (struct pollfd){.fd = there.in, .events = POLLIN};
	p[2] = (struct pollfd){.fd = back.in, .events = POLLIN};
	srandom(7);
	for (;;) {
		int wait_ms = sooner(put_out(&there), put_out(&back));

		if (poll(p, 3, wait_ms) < 0 && errno != EINTR)
			die("poll");
		if (p[0].revents && !listen_to(0))
			p[0].fd = -1;
		take_in(&there);
		take_in(&back);
	}
}
