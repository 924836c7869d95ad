/* Opens, reads and closes files in turn, N times in all, and prints the microseconds that one took and that the slowest took.
 * usage: openread N FILE... */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	long n = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
	char buf[4096];

	if (n <= 0) {
		fprintf(stderr, "usage: openread N FILE...\n");
		return 2;
	}
	double start = now_us(), last = start, slowest = 0;
	for (long i = 0; i < n; i++) {
		const char *path = argv[2 + i % (argc - 2)];
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, buf, sizeof buf) <= 0 || close(fd) < 0) {
			fprintf(stderr, "openread: cannot read '%s': %s\n", path, strerror(errno));
			return 1;
		}
		double now = now_us();
		if (now - last > slowest)
			slowest = now - last;
		last = now;
	}
	printf("%.2f %.0f\n", (last - start) / (double)n, slowest);
	return 0;
}
