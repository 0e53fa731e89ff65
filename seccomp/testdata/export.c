/*
 * export makes libseccomp's program for a filter and writes it to standard output.
 * libseccomp_test.go builds and feeds it. Lines of standard input, numbers as C reads them:
 *
 *	default ACTION                              the action's word, first of all
 *	arch NAME                                   x86_64, aarch64 ...: the first one replaces the host's
 *	optimize LEVEL                              2 for the binary tree
 *	rule ACTION NAME COUNT [ARG OP A B]...      OP is the number in enum scmp_compare
 *
 * A name that this libseccomp does not know is written to standard error and left out;
 * of the others it says there, for each architecture, which number they have.
 */
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static scmp_filter_ctx ctx;
static const char *archs[32];
static int arch_count;

static void check(int rc, const char *what, const char *of)
{
	if (rc < 0) {
		fprintf(stderr, "error %s %s: %s\n", what, of, strerror(-rc));
		exit(1);
	}
}

static void add_arch(const char *name)
{
	uint32_t arch = seccomp_arch_resolve_name(name);

	if (!arch || arch_count == 32) {
		fprintf(stderr, "error arch %s: unknown\n", name);
		exit(1);
	}
	if (!arch_count && arch != seccomp_arch_native())
		check(seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE), "remove", "native");
	if (seccomp_arch_exist(ctx, arch) != 0)
		check(seccomp_arch_add(ctx, arch), "arch", name);
	archs[arch_count++] = strdup(name);
}

static void add_rule(void)
{
	struct scmp_arg_cmp args[6];
	char name[128];
	uint32_t action;
	unsigned int count, i;

	if (scanf("%" SCNi32 " %127s %u", (int32_t *)&action, name, &count) != 3 || count > 6)
		exit(2);
	for (i = 0; i < count; i++) {
		int op;

		if (scanf("%u %d %" SCNu64 " %" SCNu64, &args[i].arg, &op, &args[i].datum_a, &args[i].datum_b) != 4)
			exit(2);
		args[i].op = op;
	}
	int nr = seccomp_syscall_resolve_name(name);
	if (nr == __NR_SCMP_ERROR) {
		fprintf(stderr, "unknown %s\n", name);
		return;
	}
	check(seccomp_rule_add_array(ctx, action, nr, count, args), "rule", name);
	for (int a = 0; a < arch_count; a++) {
		nr = seccomp_syscall_resolve_name_arch(seccomp_arch_resolve_name(archs[a]), name);
		fprintf(stderr, "number %s %s %d\n", archs[a], name, nr);
	}
}

int main(void)
{
	char word[32], name[128];

	while (scanf("%31s", word) == 1) {
		if (!strcmp(word, "default")) {
			uint32_t action;

			if (scanf("%" SCNi32, (int32_t *)&action) != 1)
				return 2;
			ctx = seccomp_init(action);
			if (!ctx)
				return 2;
		} else if (!strcmp(word, "arch") && scanf("%127s", name) == 1) {
			add_arch(name);
		} else if (!strcmp(word, "optimize")) {
			int level;

			if (scanf("%d", &level) != 1)
				return 2;
			check(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, level), "optimize", "");
		} else if (!strcmp(word, "rule")) {
			add_rule();
		} else {
			return 2;
		}
	}
	check(seccomp_export_bpf(ctx, 1), "export", "");
	return 0;
}
