# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import pytest

from monai_mgca.data.sources.open_i import read_report_xml
from monai_mgca.io.plain_xml import read_plain_xml
from monai_mgca.utils import DataError

SECRET = "the other file's content"
LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
BAD = {
    "external entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "{other}">]><x>&e;</x>',
    "external DTD": '<!DOCTYPE x SYSTEM "{other}"><x/>',
    "public DTD": '<!DOCTYPE x PUBLIC "-//X//Y" "{other}"><x/>',
    "parameter entity": '<!DOCTYPE x [<!ENTITY % p SYSTEM "{other}"> %p;]><x/>',
    "billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l11;</x>',
    "quadratic blowup": '<!DOCTYPE x [<!ENTITY e "' + "a" * 50_000 + '">]><x>' + "&e;" * 50_000 + "</x>",
    "empty DOCTYPE": "<!DOCTYPE x><x/>",
    "entity alone": "<!DOCTYPE x [<!ENTITY e 'a'>]><x/>",
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp037"])  # cp037: no byte of it looks like "<!DOCTYPE"
def test_what_is_more_than_itself_is_refused(tmp_path, kind, encoding):
    (tmp_path / "other").write_text(SECRET)
    text = BAD[kind].replace("{other}", (tmp_path / "other").as_uri())
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    (tmp_path / "1.xml").write_bytes((head + text).encode(encoding))
    with pytest.raises(DataError, match=r"1\.xml (has a DOCTYPE|is not XML)") as error:
        read_plain_xml(tmp_path / "1.xml")
    assert SECRET not in str(error.value)


def test_a_single_byte_encoding_does_not_hide_an_entity(tmp_path):
    """The parser takes the XML declaration as ASCII and what follows it in the encoding that it names."""
    body = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><x>&e;</x>'.encode("cp037")
    (tmp_path / "1.xml").write_bytes(b'<?xml version="1.0" encoding="cp037"?>' + body)
    assert b"DOCTYPE" not in body
    with pytest.raises(DataError, match=r"1\.xml"):
        read_report_xml(tmp_path / "1.xml")


def test_what_is_undefined_or_broken_is_refused(tmp_path):
    path = tmp_path / "1.xml"
    for content in (b"", b"<x>&e;</x>", b"<x>", b"\0", b"<x/><y/>", b'<?xml version="1.0" encoding="none"?><x/>'):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not XML"):
            read_plain_xml(path)
    with path.open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(DataError, match="larger than 16 MB"):
        read_plain_xml(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_plain_xml(tmp_path / "2.xml")


def test_plain_files_are_read(tmp_path):
    path = tmp_path / "1.xml"
    text = '<?xml version="1.0" encoding="{}"?><a><!-- c --><b id="1">&lt;ä&#228;<![CDATA[<&]]></b><b/></a>'
    for encoding in ("utf-8", "utf-16", "latin-1"):
        path.write_bytes(text.format(encoding).encode(encoding))
        first, second = read_plain_xml(path).iter("b")
        assert (first.text, first.get("id"), second.text) == ("<ää<&", "1", None)
    path.write_text("<a>" * 100_000 + "</a>" * 100_000)
    assert sum(1 for _ in read_plain_xml(path).iter()) == 100_000
