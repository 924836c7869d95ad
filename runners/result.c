#include "runners/runner.h"

const char *run_result_name(enum run_result r)
{
	switch (r) {
	case RUN_OK:
		return "ok";
	case RUN_FAILED:
		return "failed";
	case RUN_UNREACHABLE:
		return "unreachable";
	case RUN_TIMED_OUT:
		return "timed-out";
	case RUN_CANCELLED:
		return "cancelled";
	case RUN_INTERRUPTED:
		return "interrupted";
	case RUN_NOT_STARTED:
		return "not-started";
	case RUN_REFUSED:
		return "refused";
	case RUN_REBOOT:
		return "reboot";
	}
	return "unknown";
}
