"""Laws of dietjax.parallel.collectives: what XLA writes is counted to the byte; what is not understood is an error."""

import pytest

from dietjax.parallel.collectives import collectives

HEADER = "HloModule jit_step, is_scheduled=true, num_partitions=8\n\n"
ADD = "%add (a: f32[], b: f32[]) -> f32[] {\n  ROOT %c = f32[] add(f32[] %a, f32[] %b)\n}\n\n"


def program(*lines, more=""):
    body = "".join(f"  {line}\n" for line in lines)
    return f"{HEADER}{ADD}{more}ENTRY %main.1_spmd (p: f32[4,2]) -> f32[] {{\n{body}}}\n"


@pytest.mark.parametrize("line, kind, size, group, sent", [
    ("%all-reduce.1 = f32[4,2]{1,0} all-reduce(%p), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add",
     "all-reduce", 32, 4, 48),  # 2 · 3/4 · 32
    ("ROOT %all-reduce.1 = (f32[4,2]{1,0}, /*index=1*/bf16[3]{0}, pred[]) all-reduce(%p, %q, %r), "
     "replica_groups=[1,8]<=[8], to_apply=%add", "all-reduce", 32 + 6 + 1, 8, 39 * 14 / 8),
    ("%all-reduce.1 = f32[5]{0} all-reduce(%p), replica_groups={}, to_apply=%add", "all-reduce", 20, 8, 35),
    ("%all-reduce.1 = f64[5]{0} all-reduce(%p), replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add",
     "all-reduce", 40, 2, 40),
    ("%all-gather.1 = bf16[8,2]{1,0:T(8,128)(2,1)} all-gather(%p), replica_groups=mesh['axis_0'=4,'axis_1'=1,"
     "'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_0'}, dimensions={0}", "all-gather", 32, 4, 24),
    ("%all-gather.1 = f32[8]{0} all-gather(%p), replica_groups=mesh['a'=8] {'a':(2)4}, dimensions={0}",
     "all-gather", 32, 4, 24),
    ("%all-gather-start.1 = (f32[2]{0}, f32[8]{0}) all-gather-start(%p), replica_groups=[2,4]<=[8], dimensions={0}",
     "all-gather", 32, 4, 24),
    ("%all-reduce-start.1 = f32[8]{0} all-reduce-start(%p), replica_groups=[2,4]<=[8], to_apply=%add",
     "all-reduce", 32, 4, 48),
    ("%reduce-scatter.1 = f32[2]{0} reduce-scatter(%p), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add",
     "reduce-scatter", 32, 4, 24),
    ("%reduce-scatter-start.1 = ((f32[8]{0}, bf16[4]{0}), (f32[2]{0}, bf16[1]{0})) reduce-scatter-start(%p, %q), "
     "replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add", "reduce-scatter", 40, 4, 30),
    ("%all-to-all.1 = (f32[2]{0}, f32[2]{0}) all-to-all(%p, %q), replica_groups=[4,2]<=[8]", "all-to-all", 16, 2, 8),
    ("%collective-permute.1 = u8[9]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}",
     "collective-permute", 9, 8, 9),
    ("%collective-permute-start.1 = (f32[3]{0}, f32[3]{0}, u32[], u32[]) collective-permute-start(%p), "
     "source_target_pairs={{0,1},{1,0}}", "collective-permute", 12, 8, 12),
    ("%all-reduce.1 = f32[4]{0} all-reduce(%p), replica_groups={{0},{1}}, to_apply=%add", "all-reduce", 16, 1, 0),
])
def test_each_way_of_writing_a_collective_is_counted(line, kind, size, group, sent):
    done = "%done = f32[8]{0} all-gather-done((f32[2]{0}, f32[8]{0}) %start)"
    (found,) = collectives(program(line, done))
    assert (found.kind, found.bytes, found.group, found.times) == (kind, size, group, 1)
    assert found.sent == sent


LOOP = """%body.1 (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-reduce.7 = f32[4]{0} all-reduce(%x), replica_groups=[1,8]<=[8], to_apply=%add, metadata={op_name="jit(f)/add"}
}

%condition.1 (s: (s32[], f32[4])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

"""
WHILE = "%while.1 = (s32[], f32[4]{0}) while(%t), condition=%condition.1, body=%body.1"


def test_a_collective_in_a_loop_counts_as_often_as_it_runs():
    text = program(WHILE + ', backend_config={"known_trip_count":{"n":"5"}}', more=LOOP)
    (found,) = collectives(text)
    assert found.name == "all-reduce.7: jit(f)/add"
    assert (found.times, found.sent) == (5, 5 * 2 * 7 / 8 * 16)


def test_types_are_counted_apart():
    line = "%all-reduce.1 = (f32[4,2]{1,0}, bf16[3]{0}, f32[]) all-reduce(%p, %q, %r), replica_groups={}, to_apply=%add"
    (found,) = collectives(program(line))
    assert dict(found.types) == {"f32": 36, "bf16": 6}


RING = """%body.2 (s: (s32[], u32[])) -> (s32[], u32[]) {
  %s = (s32[], u32[]) parameter(0)
  %two = u32[]{:T(128)} constant(2)
  %x = s32[]{:T(128)} get-tuple-element(%s), index=0
  %i = u32[]{:T(128)} get-tuple-element(%s), index=1
  %cp = (s32[]{:S(1)}, s32[]{:S(1)}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %next = u32[]{:T(128)} add(%i, %two), metadata={op_name="x"}
  ROOT %t = (s32[], u32[]) tuple(%x, %next)
}

%condition.2 (s: (s32[], u32[])) -> pred[] {
  %s = (s32[], u32[]) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%s), index=1
  %end = u32[]{:T(128)} constant(7)
  ROOT %less = pred[] compare(%i, %end), direction=LT
}

"""
AROUND = ("%one = u32[] constant(1)", "%copied = u32[] copy(%one)",
          "%start = (s32[], /*index=1*/u32[]) tuple(%p, %copied)",
          "%while.2 = (s32[], u32[]) while(%start), condition=%condition.2, body=%body.2")


def test_a_counted_loop_that_says_nothing_is_counted():
    """From 1 in steps of 2 while it is below 7: at 1, 3 and 5."""
    (found,) = collectives(program(*AROUND, more=RING))
    assert (found.kind, found.times, found.sent) == ("collective-permute", 3, 12)


@pytest.mark.parametrize("was, becomes", [
    ("direction=LT", "direction=NE"), ("add(%i", "multiply(%i"), ("add(%i", "add(%x"), ("constant(7)", "parameter(1)"),
    ("constant(2)", "parameter(1)"), ("constant(1)", "parameter(1)"), ("constant(2)", "constant(0)"),
    ("ROOT %t = (s32[], u32[]) tuple", "ROOT %t = (s32[], u32[]) custom-call"), ("%x, %next", "%x")])
def test_another_loop_is_not_guessed_at(was, becomes):
    text = program(*AROUND, more=RING)
    assert was in text
    with pytest.raises(ValueError, match=r"runs inside while\.2, which does not say how often"):
        collectives(text.replace(was, becomes))


def test_a_fused_reduce_scatter_of_a_tpu_is_one():
    fused = """%all-reduce-scatter.2 (x: f32[8]) -> f32[1] {
  %all-reduce.3 = f32[8]{0} all-reduce(%x), replica_groups={}, to_apply=%add
  ROOT %slice = f32[1]{0} dynamic-slice(%all-reduce.3, %i), dynamic_slice_sizes={1}
}

"""
    (found,) = collectives(program("%f = f32[1]{0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.2", more=fused))
    assert (found.kind, found.bytes, found.sent) == ("reduce-scatter", 32, 28)


def test_what_a_tpu_runs_beside_several_fusions_is_one():
    def part(name, channel):
        return (f"%{name} (x: f32[1]) -> f32[8] {{\n  ROOT %all-gather.{name} = f32[8]{{0}} all-gather(%x), channel_id="
                f"{channel}, replica_groups={{}}, dimensions={{0}}, frontend_attributes={{chain_id=\"0\"}}\n}}\n\n")

    found = collectives(program(*(f"%{name} = f32[8]{{0}} fusion(%p), kind=kCustom, calls=%{name}" for name in "abc"),
                                more=part("a", 3) + part("b", 3) + part("c", 4)))
    assert [(c.name, c.bytes) for c in found] == [("all-gather.a", 32), ("all-gather.c", 32)]


@pytest.mark.parametrize("text, says", [
    (program(WHILE, more=LOOP), "all-reduce.7.* runs inside while.1, which does not say how often"),
    (program("%c = f32[] conditional(%p, %a, %b), branch_computations={%add, %body.1}", more=LOOP), "runs inside c,"),
    (program("%c = f32[] conditional(%p, %a, %b), true_computation=%add, false_computation=%body.1", more=LOOP),
     "runs inside c,"),
    (program("%x = f32[4]{0} ragged-all-to-all(%p), replica_groups={}"), "unknown collective ragged-all-to-all"),
    (program("%x = f32[4]{0} all-reduce(%p), replica_groups=something"), "unknown replica groups"),
    ("module @jit_f {}", "no HLO"),
])
def test_what_cannot_be_counted_is_an_error(text, says):
    with pytest.raises(ValueError, match=says):
        collectives(text)


def test_a_program_without_collectives_has_none():
    text = program("%dot = f32[4]{0} dot(%p, %p)", WHILE, more=LOOP.replace("all-reduce(", "negate("))
    assert collectives(text) == []
