/* A set expands to names, which fold into a set, which expands to the same names. */
#include "fs/base/mem.h"
#include "fs/desired/desired.h"
#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strlist names = {0}, again = {0};
	struct err *err = NULL;
	struct buf folded = {0};
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	int rc = node_set_expand(text, &names, &err);
	assert(rc == 0 ? !err : *err_msg(err) != 0);
	if (rc == 0 && names.n < 2000) {
		node_set_fold(&names, &folded);
		assert(node_set_expand(buf_str(&folded), &again, NULL) == 0);
		strlist_sort(&names);
		strlist_sort(&again);
		assert(names.n == again.n);
		for (size_t i = 0; i < names.n; i++)
			assert(!strcmp(names.items[i], again.items[i]));
	}
	err_free(err);
	buf_release(&folded);
	strlist_release(&names);
	strlist_release(&again);
	return 0;
}
