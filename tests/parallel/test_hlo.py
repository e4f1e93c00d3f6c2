"""Laws of dietjax.parallel.hlo: sizes of arrays by hand; what is no program is an error."""

import pytest

from dietjax.parallel.hlo import arrays, parse


@pytest.mark.parametrize("printed, size", [
    ("f32[]", 4), ("pred[3,5]{1,0}", 15), ("s4[8]{0:E(4)}", 4), ("bf16[2,3]{1,0}", 12), ("f8e4m3fn[7]{0}", 7),
    ("c64[2]", 16), ("f32[3,5]{1,0:T(8,128)}", 8 * 128 * 4), ("f32[3,5]{0,1:T(8,128)}", 128 * 8 * 4),
    ("f32[5]{0:T(128)}", 512), ("f32[3,5]{1,0:T(8,128)S(1)}", 0), ("f32[3,5]{1,0:S(5)}", 60), ("token[]", 0),
    ("(f32[2]{0}, (s32[], u8[0]{0}))", 12), ("()", 0),
])
def test_sizes_of_arrays(printed, size):
    assert sum(array.bytes for array in arrays(printed)) == size


@pytest.mark.parametrize("text, says", [
    ("HloModule m\n", "no ENTRY"),
    ("ENTRY %main (x: f32[]) -> f32[] {\n  what is this\n}\n", "no instruction of HLO"),
    ("ENTRY %main (x: f32[]) -> f32[] {\n  %x = f32[] negate(%y\n}\n", "not closed"),
    ("ENTRY %main (x: f32[]) -> f32[] {\n  %x = weird[2] parameter(0)\n}\n", "no type of HLO"),
])
def test_what_is_no_program_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        parse(text)


@pytest.mark.parametrize("printed, size", [("f32[3,5]{1,0:T(8,128)}", 60), ("bf16[3,5]{1,0:T(8,128)S(1)}", 30),
                                           ("s4[3]{0}", 2)])
def test_elements_alone_count_wherever_they_lie(printed, size):
    (array,) = arrays(printed)
    assert array.unpadded == size
