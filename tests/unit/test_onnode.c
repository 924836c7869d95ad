/* What the tools on a node are given, and how the end of a run is judged. */
#include "fs/base/buf.h"
#include "runners/chef.h"
#include "runners/onnode.h"
#include "runners/salt.h"
#include <criterion/criterion.h>

Test(salt, the_pillar_holds_parameters_and_all_inputs)
{
	json_t *params = json_pack("{s:s}", "pass-word", "a{{ x }}"), *inputs = json_pack("{s:[s]}", "nodes", "n");
	struct run_item item = {.params = params, .inputs = inputs};
	json_t *pillar = salt_pillar(&item, "redis"), *own = json_object_get(pillar, "redis");
	cr_assert_str_eq(json_string_value(json_object_get(own, "pass-word")), "a{{ x }}");
	cr_assert(json_equal(json_object_get(pillar, "rebar"), inputs));
	json_decref(pillar);
	json_decref(params);
	json_decref(inputs);
}

Test(chef, attributes_hold_parameters_inputs_and_what_is_to_run)
{
	json_t *params = json_pack("{s:i}", "size", 3), *inputs = json_pack("{s:[s]}", "nodes", "n");
	struct run_item item = {.params = params, .inputs = inputs};
	json_t *attributes = chef_attributes(&item, "redis");
	cr_assert_eq(json_integer_value(json_object_get(json_object_get(attributes, "redis"), "size")), 3);
	cr_assert(json_equal(json_object_get(attributes, "rebar"), inputs));
	cr_assert_str_eq(json_string_value(json_array_get(json_object_get(attributes, "run_list"), 0)), "recipe[redis]");
	json_decref(attributes);
	json_decref(params);
	json_decref(inputs);
}

static enum run_result judged(json_t *report, int exit_status, struct buf *why, bool *drifted)
{
	struct run_item item = {0};
	struct onnode_end end = {.item = &item, .exit_status = exit_status, .failed = "", .tail = "the last line", .report = report};
	struct onnode_verdict v = {.result = exit_status ? RUN_FAILED : RUN_OK, .resources = json_array()};
	report_judge("salt", &end, &v);
	buf_reset(why);
	buf_adds(why, buf_str(&v.why));
	*drifted = v.drifted;
	buf_release(&v.why);
	json_decref(v.resources);
	json_decref(report);
	return v.result;
}

Test(report, decides_where_the_exit_status_cannot)
{
	_cleanup_buf_ struct buf why = {0};
	bool drifted;
	cr_assert_eq(judged(NULL, 0, &why, &drifted), RUN_FAILED, "ended by SIGTERM, salt-call exits 0");
	cr_assert_str_eq(buf_str(&why), "salt ended well, but wrote no report: the last line");
	cr_assert_eq(judged(json_array(), 0, &why, &drifted), RUN_FAILED);
	cr_assert_eq(judged(json_pack("{s:s, s:[s], s:[]}", "status", "failed", "errors", "Rendering SLS failed", "resources"), 0, &why, &drifted),
	        RUN_FAILED);
	cr_assert_str_eq(buf_str(&why), "salt failed: Rendering SLS failed");
	cr_assert_eq(judged(json_pack("{s:s, s:[{s:s, s:s, s:s, s:i}]}", "status", "ok", "resources", "name", "cmd.run x", "status", "failed", "file",
	                            "init.sls", "line", 3),
	                     0, &why, &drifted),
	        RUN_FAILED);
	cr_assert_str_eq(buf_str(&why), "cmd.run x (init.sls:3)");
	cr_assert_eq(judged(json_pack("{s:s, s:[]}", "status", "ok", "resources"), 2, &why, &drifted), RUN_FAILED);
	cr_assert_eq(
	        judged(json_pack("{s:s, s:[{s:s, s:s}]}", "status", "ok", "resources", "name", "f", "status", "changed"), 0, &why, &drifted), RUN_OK);
	cr_assert(drifted);
}
