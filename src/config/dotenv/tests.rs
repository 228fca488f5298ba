use proptest::prelude::*;

use super::*;

fn known(name: &str) -> Option<String> {
    (name == "OUTSIDE").then(|| "out".to_owned())
}

fn one(line: &str) -> Result<String, String> {
    let mut variables = parse(line.as_bytes(), known).map_err(|e| e.to_string())?;
    variables.remove("A").ok_or_else(|| format!("{variables:?}"))
}

#[test]
fn values_are_read_as_shells_and_other_programs_write_them() {
    for (line, value) in [
        ("A=b", "b"),
        ("\u{feff}A=b\r\n", "b"),
        ("  export A = b  ", "b"),
        ("A=", ""),
        ("A= # nothing", ""),
        ("A=new, old", "new, old"),
        ("A=new,\told  # both\n", "new,\told"),
        ("A=a#b", "a#b"),
        ("A='a # b'  # c", "a # b"),
        ("A='  '", "  "),
        (r"A='$x \n'", r"$x \n"),
        ("A=\"a b\\n\\\"c\\\" \\$d\"", "a b\n\"c\" $d"),
        ("A='two\nlines'\nB=1", "two\nlines"),
        (r"A=a\ b\ ", "a b "),
        ("A=$OUTSIDE/${OUTSIDE}s", "out/outs"),
        ("B=in\nA=$B", "in"),
        ("A=5$ $", "5$ $"),
        ("A=Bob's\nB=Ann's", "Bob's"),
        ("A=say \"hi\"  # c", "say \"hi\""),
        (r#"A={"a": "b"}"#, r#"{"a": "b"}"#),
        ("A=6' 2\"\nB=1", "6' 2\""),
        ("A='it'\"'\"'s'", "it's"),
        (r"A='it'\''s'", "it's"),
        ("A='two\nlines' # Bob's\nB=1", "two\nlines"),
        ("A=1\nA=2", "2"),
        ("# A=1\n\n   \nA=2\n", "2"),
        ("A==", "="),
        ("A=postgres://u:p?w@h/d", "postgres://u:p?w@h/d"),
    ] {
        assert_eq!(one(line), Ok(value.to_owned()), "{line:?}");
    }
    assert_eq!(parse(b"export=1", known).expect("good")["export"], "1");
}

const OPEN: &str = "a quote is not closed; put a value that holds one into quotes of the other kind";
const ESCAPE: &str = "after a `\\` only \\ ' \" $ n or a blank can stand; put the value into single quotes";
const REFERENCE: &str =
    "refers with `$` to a variable that is not set; if `$` itself is meant, put the value into single quotes";

#[test]
fn what_is_wrong_is_named_by_its_line_and_never_repeated() {
    for (file, place, problem) in [
        ("BIND=1\ns3cret", "line 2", "write NAME=value"),
        ("BIND=1\ns3/cret=", "line 2", "write NAME=value"),
        ("A=1\nMASTER_KEY s3cret", "line 2 (MASTER_KEY)", "write NAME=value"),
        ("export MASTER_KEY: s3cret=", "line 1 (MASTER_KEY)", "write NAME=value"),
        ("A=1\n\nMASTER_KEY='s3cret\nB=2\n", "line 3 (MASTER_KEY)", OPEN),
        ("MASTER_KEY='s3cret\nB='x'\n", "line 1 (MASTER_KEY)", OPEN),
        ("MASTER_KEY='s3'cret'\n", "line 1 (MASTER_KEY)", OPEN),
        ("MASTER_KEY='s3'cret'\nB='\n", "line 1 (MASTER_KEY)", OPEN),
        ("A='two\nlines'\nSIGNING_SECRET=s3\\cret", "line 3 (SIGNING_SECRET)", ESCAPE),
        ("MASTER_KEY=pa$s3cret", "line 1 (MASTER_KEY)", REFERENCE),
        ("MASTER_KEY=pa${s3cret", "line 1 (MASTER_KEY)", REFERENCE),
        ("MASTER_KEY=${OUTSIDE:-s3cret}", "line 1 (MASTER_KEY)", REFERENCE),
        ("A=1\nA=\\s3cret\nMASTER_KEY=$A", "line 3 (MASTER_KEY)", REFERENCE),
    ] {
        let error = parse(file.as_bytes(), known).expect_err("wrong").to_string();
        assert_eq!(error, format!("{place}: {problem}"), "{file:?}");
    }
    for (file, says) in [
        (&b"A=1\nBIND=\xff"[..], "line 2 (BIND): is not UTF-8 text"),
        (b"\xff\xfeB\0I\0N\0D\0=\0x\0", "line 1: is not UTF-8 text"),
    ] {
        assert_eq!(parse(file, known).expect_err("wrong").to_string(), says);
    }
}

#[test]
fn what_cannot_be_read_is_skipped_where_it_is_not_this_programs() {
    for line in [
        &b"X"[..],
        b"export X",
        b"my-var=3",
        b"s3 cret=1",
        b"=x",
        b"[section]",
        b"set -a",
        b"X=C:\\dir",
        b"X=at the end\\",
        b"X=\"\\d+\"",
        b"X=\"two\n\\d lines\nBIND=none of it\"",
        b"X=${Y:-z}",
        b"X=\"${Y:-z} $(date)\"",
        b"X=${Y:?not set}/$Z",
        b"X='tis",
        b"X=\"C:\\dir\\\"",
        b"X='Bob's'",
        b"X=gr\xf6\xdfe # gr\xf6\xdfe",
        b"# gr\xf6\xdfe",
    ] {
        for (before, after) in [("", "\nBIND=b\nZ='z'\n"), ("A=1\n", "\r\nBIND='b'\n"), ("\nBIND=b\n\n", "\nA=1\n")] {
            let file = [before.as_bytes(), line, after.as_bytes()].concat();
            let read = parse(&file, known);
            let shown = String::from_utf8_lossy(&file);
            let variables = read.unwrap_or_else(|e| panic!("{shown:?}: {e}"));
            assert_eq!(variables["BIND"], "b", "{shown:?}");
            assert!(!variables.contains_key("X"), "{shown:?}: {variables:?}");
        }
    }
    for line in ["my-var=3", "export X", "X=${Y:-z}", "s3 cret=1"] {
        let variables = parse(format!("BIND=b\n{line}\nA=1").as_bytes(), known).expect("no continuation");
        assert_eq!((variables["BIND"].as_str(), variables["A"].as_str()), ("b", "1"), "{line}");
    }
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(bytes: Vec<u8>) {
        let _ = parse(&bytes, known);
    }

    #[test]
    fn a_value_in_single_quotes_is_what_it_is(value in "[^']*") {
        prop_assert_eq!(one(&format!("A='{value}'")), Ok(value));
    }

    #[test]
    fn no_error_repeats_a_value(value in "[ZX\"'\\\\$#= \n{}]{1,20}") {
        if let Err(error) = parse(format!("MASTER_KEY={value}").as_bytes(), known) {
            let text = error.to_string().replace("(MASTER_KEY)", "");
            prop_assert!(!text.contains(['Z', 'X']), "{}", error);
        }
    }
}
