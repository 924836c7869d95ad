/* KVM or emulation. That /dev/kvm opens proves nothing: within some virtual machines a stock kernel hangs on it without a word. So a guest
 * kernel is booted, which has no root, panics and thereby ends qemu; what does not get there in time did not boot. */
#include "providers/vm/vm.h"

#include "fs/base/io.h"
#include "fs/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PROBE_MS 15000
#define VERDICT_MAX 4096

int qemu_version(char **ret, struct err **err)
{
	_cleanup_free_ char *path = preflight_find(QEMU);
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return err_set(err, EAGAIN, "the program '" QEMU "' is missing: run 'apt-get install qemu-system-x86'");
	*ret = xasprintf("%lld-%lld", (long long)st.st_size, (long long)st.st_mtim.tv_sec);
	return 0;
}

static char *probe_kernel(const char *base)
{
	struct utsname u = {0};
	char *path = path_join(base, "kernel");

	if (access(path, R_OK) == 0)
		return path;
	free(path);
	uname(&u);
	path = xasprintf("/boot/vmlinuz-%s", u.release);
	if (access(path, R_OK) == 0)
		return path;
	free(path);
	return NULL;
}

static bool boots(const char *kernel)
{
	const char *const words[] = {QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-accel", "kvm", "-cpu", "host",
	        "-m", "128M", "-no-reboot", "-kernel", kernel, "-append", "panic=-1"};
	_cleanup_strlist_ struct strlist argv = {0};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		strlist_add(&argv, words[i]);
	return qemu_run(&argv, PROBE_MS, NULL) == 0;
}

bool kvm_works(const char *cache_dir, const char *base, const char *version)
{
	_cleanup_free_ char *path = path_join(cache_dir, "kvm"), *kernel = NULL;
	_cleanup_buf_ struct buf boot = {0}, known = {0}, key = {0};
	bool yes;

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return false;
	file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", VERDICT_MAX, &boot, NULL);
	buf_addf(&key, "%.*s %s ", (int)strcspn(buf_str(&boot), "\n"), buf_str(&boot), version);
	if (file_read(AT_FDCWD, path, VERDICT_MAX, &known, NULL) == 0 && !strncmp(buf_str(&known), buf_str(&key), key.len))
		return !strcmp(buf_str(&known) + key.len, "yes\n");
	kernel = probe_kernel(base);
	if (!kernel)
		return false;
	yes = boots(kernel);
	buf_adds(&key, yes ? "yes\n" : "no\n");
	file_write_atomic(AT_FDCWD, path, buf_str(&key), key.len, 0644, NULL);
	return yes;
}
