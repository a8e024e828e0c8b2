// SPDX-License-Identifier: Apache-2.0

use super::*;
use serde_json::json;

fn data() -> Value {
    data::from_json(&json!({
        "device_1": "52:54:00:00:00:11",
        "Hardware": {
            "Disks": ["/dev/sda", "/dev/nvme0n1"],
            "Metadata": null,
            "Interfaces": [{"DHCP": {"MAC": "52:54:00:00:00:11", "IP": {"Netmask": "255.255.255.0"}}}]
        },
        "hardware": {"spec": {"size": 1_000_000_000_000_i64}}
    }))
}

fn ok(template: &str, expected: &str) {
    assert_eq!(render(template, &data()).unwrap(), expected, "{template}");
}

#[test]
fn renders_what_published_templates_use() {
    ok("{{.device_1}}", "52:54:00:00:00:11");
    ok("{{ index .Hardware.Disks 0 }}", "/dev/sda");
    ok("{{ formatPartition ( index .Hardware.Disks 0 ) 1 }}", "/dev/sda1");
    ok("{{ formatPartition ( index .Hardware.Disks 1 ) 2 }}", "/dev/nvme0n1p2");
    ok("{{ formatPartition \"/dev/disk/by-id/x1\" 3 }}", "/dev/disk/by-id/x1-part3");
    ok("{{ (index .Hardware.Interfaces 0).DHCP.IP.Netmask | netmaskToPrefixLength }}", "24");
    ok("{{ netmaskToCIDR \"255.255.240.0\" }}{{ netmaskToPrefixLength \"255.0.255.0\" }}", "200");
    ok("{{range $i, $d := .Hardware.Disks}}{{if $i}},{{end}}{{$d}}{{end}}", "/dev/sda,/dev/nvme0n1");
    ok("{{with .Hardware.Metadata}}x{{else}}none{{end}}", "none");
    ok("{{if and .device_1 (not .Hardware.Metadata)}}yes{{end}}", "yes");
    ok("{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .device_1}}", "<52:54:00:00:00:11>");
    ok("{{ .hardware.spec.size }}", "1000000000000");
    ok("{{ printf \"%03d %q\" 7 \"a\" }}", "007 \"a\"");
    ok("a {{- /* c */ -}} b", "ab");
    ok("{{ eq .device_1 \"x\" | not }}", "true");
}

#[test]
fn floats_print_as_in_go() {
    for (number, expected) in
        [("123456789.0", "1.23456789e+08"), ("123456.0", "123456"), ("1000000.0", "1e+06"), ("0.5", "0.5")]
    {
        ok(&format!("{{{{ {number} }}}}"), expected);
        ok(&format!("{{{{ toString {number} }}}}"), expected);
    }
    ok("{{ list 0.00001 1.0 }}", "[1e-05 1]");
}

#[test]
fn errors_name_line_and_key() {
    let error = render("a\n{{ .Hardware.Disk }}", &data()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template line 2: .Hardware.Disk does not exist: there is no entry for key \"Disk\""
    );
    let error = render("a\n\n{{ .Hardware.Metadata.Instance.ID }}", &data()).unwrap_err();
    assert_eq!(error.line(), Some(3));
    assert!(error.to_string().contains(".Hardware.Metadata is nil"), "{error}");
    let error = render("{{ .hardware.Spec }}", &data()).unwrap_err();
    assert!(error.to_string().contains("did you mean \"spec\""), "{error}");
    let error = render("{{ $x := .Hardware }}\n{{ $x.Nope }}", &data()).unwrap_err();
    assert!(error.to_string().contains("line 2: $x.Nope does not exist"), "{error}");
    let error = render("\n{{ nope 1 }}", &data()).unwrap_err();
    assert_eq!(error.to_string(), "template line 2: function \"nope\" not defined");
    let error = render("\n{{ randInt 1 2 }}", &data()).unwrap_err();
    assert!(matches!(error, Error::Parse { line: 2, .. }));
    let error = render("\n{{ fail \"because\" }}", &data()).unwrap_err();
    assert_eq!(error.to_string(), "template line 2: error calling fail: because");
    let error = render("\n\n{{ index .Hardware.Disks 5 }}", &data()).unwrap_err();
    assert_eq!(error.line(), Some(3));
    assert!(matches!(render("{{ .x", &data()), Err(Error::Parse { line: 1, .. })));
    assert!(matches!(render("{{ \"a\" | .device_1 }}", &data()), Err(Error::Parse { .. })));
    assert!(render("{{ upper 1 2 }}", &data()).unwrap_err().to_string().contains("want 1, got 2"));
}

#[test]
fn output_and_loops_are_bounded() {
    let error = render("{{range until 100000}}{{$.device_1}}{{end}}", &data()).unwrap_err();
    assert_eq!(error, Error::TooLong);
    assert!(render("{{range until 90000}}{{range until 90000}}{{end}}{{end}}", &data()).is_err());
    assert!(render("{{ repeat 100000000 \"x\" }}", &data()).is_err());
    assert!(render("{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}", &data()).is_err());
    let fits = "x".repeat(OUTPUT_LIMIT);
    assert_eq!(render(&fits, &data()).unwrap().len(), OUTPUT_LIMIT);
}

#[test]
fn work_values_and_nesting_are_bounded() {
    let deep =
        |open: &str, close: &str, levels: usize| format!("{}{}", open.repeat(levels), close.repeat(levels));
    let chain = |links: usize| format!("{{{{if false}}}}{}{{{{end}}}}", "{{else if false}}".repeat(links));
    // Each of these took the process down, or all of its memory, or hours.
    for template in [
        "{{ $x := \"xxxxxxxx\" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}".to_owned(),
        "{{ $x := list 1 }}{{ range until 100 }}{{ $x = list $x $x }}{{ end }}{{ toJson $x }}".to_owned(),
        "{{ $x := list 1 }}{{ range until 100 }}{{ $x = list $x $x }}{{ end }}{{ $x }}".to_owned(),
        "{{ $x := list 1 }}{{ range until 100000 }}{{ $x = list $x }}{{ end }}".to_owned(),
        "{{ $x := dict }}{{ range until 100000 }}{{ $x = dict \"a\" $x }}{{ end }}".to_owned(),
        "{{ range until 100000 }}{{ $x := until 100000 }}{{ end }}".to_owned(),
        "{{ $s := repeat 200000 \"x\" }}{{ range until 100000 }}{{ $x := sha512sum $s }}{{ end }}".to_owned(),
        "{{ uniq (until 100000) }}".to_owned(),
        "{{ range until 100000 }}{{ $x := regexMatch \"a\" \"a\" }}{{ end }}".to_owned(),
        "{{ $s := repeat 100000 \"a \" }}{{ wrapWith 1 $s $s }}".to_owned(),
        "{{ $s := repeat 200000 \"a\" }}{{ replace \"a\" $s $s }}".to_owned(),
        "{{ $s := repeat 200000 \"a\" }}{{ join $s (until 100000) }}".to_owned(),
        "{{ $s := repeat 100000 \"a\" }}{{ regexReplaceAll \".*\" $s (repeat 1000 \"$0\") }}".to_owned(),
        "{{ $s := repeat 100000 \"a\" }}{{ regexReplaceAllLiteral \"a\" $s $s }}".to_owned(),
        "{{ $s := repeat 200000 \"a\" }}{{ printf (repeat 10000 \"%[1]s\") $s }}".to_owned(),
        "{{ repeat 10000 \"%[1]065535d\" | printf }}".to_owned(),
        (0..60)
            .map(|n| {
                format!(
                    "{{{{define \"{n}\"}}}}{}{{{{end}}}}",
                    format!("{{{{template \"{}\"}}}}", n + 1).repeat(2)
                )
            })
            .collect::<String>()
            + "{{define \"60\"}}{{if 0}}{{end}}{{end}}{{template \"0\"}}",
        format!("{{{{range until 10000}}}}{}{{{{end}}}}", "{{if 0}}{{end}}".repeat(10_000)),
        deep("{{if 1}}", "{{end}}", 50_000),
        format!("{{{{{}}}}}", deep("(", ")", 50_000)),
        chain(50_000),
        deep("{{if 1}}{{else if 1}}{{else if 1}}", "{{end}}", 90),
    ] {
        let begun = std::time::Instant::now();
        let error = render(&template, &data()).unwrap_err();
        assert!(error.line() == Some(1), "{error}: {template:.60}");
        assert!(begun.elapsed().as_secs() < 30, "{template:.60}");
    }
    ok(&chain(195), "");
    ok(&deep("{{if 1}}", "{{end}}", 90), "");
    ok(&format!("{{{{ {} }}}}", deep("(", ")", 90).replace("()", "(1)")), "1");
    ok(
        "{{ range $i := until 1000 }}{{ if index $.Hardware.Disks 0 | eq (print \"/dev/\" \"sda\") }}x{{ end }}{{ end }}",
        &"x".repeat(1000),
    );
    // Nothing is left over from the rendering before.
    let mut template = Template::parse("{{ range until 50000 }}{{ $x := print . }}{{ end }}").unwrap();
    for _ in 0..10 {
        assert_eq!(template.render(&data()).unwrap(), "");
    }
}

#[test]
fn a_failed_rendering_leaves_no_trace_in_the_next() {
    let mut template = Template::parse("{{ .a.b }}").unwrap();
    assert!(template.render(&data::from_json(&json!({"a": null}))).is_err());
    assert_eq!(template.render(&data::from_json(&json!({"a": {"b": 1}}))).unwrap(), "1");
}

#[test]
fn dictionaries_change_through_their_variable() {
    ok("{{$d := dict \"a\" 1}}{{$_ := set $d \"b\" 2}}{{$d | toJson}}", "{\"a\":1,\"b\":2}");
    ok("{{$d := dict \"a\" 1 \"b\" 2}}{{$_ := unset $d \"a\"}}{{keys $d | join \",\"}}", "b");
    ok(
        "{{$d := dict}}{{range until 3}}{{$_ := set $d (toString .) .}}{{end}}{{toJson $d}}",
        "{\"0\":0,\"1\":1,\"2\":2}",
    );
    ok(
        "{{$d := dict \"a\" (dict \"x\" 1)}}{{$_ := merge $d (dict \"a\" (dict \"y\" 2 \"x\" 9))}}{{toJson $d}}",
        "{\"a\":{\"x\":1,\"y\":2}}",
    );
    ok("{{ set (dict) \"k\" \"v\" | toJson }}", "{\"k\":\"v\"}");
    assert!(matches!(render("{{ set .Hardware \"a\" 1 }}", &data()), Err(Error::Parse { .. })));
    ok(
        "{{ dig \"a\" \"b\" \"no\" (dict \"a\" (dict \"b\" \"yes\")) }}{{ dig \"x\" \"no\" (dict) }}",
        "yesno",
    );
    ok("{{ get (dict \"a\" 1) \"b\" }}|{{ hasKey (dict \"a\" 1) \"a\" }}", "|true");
    ok(
        "{{ pick (dict \"a\" 1 \"b\" 2) \"a\" | toJson }}{{ omit (dict \"a\" 1 \"b\" 2) \"a\" | toJson }}",
        "{\"a\":1}{\"b\":2}",
    );
}

#[test]
fn text_functions() {
    for (template, expected) in [
        ("{{ default \"x\" \"\" }}{{ default \"x\" \"y\" }}{{ \"\" | default 5 }}", "xy5"),
        ("{{ quote \"a\\\"b\" 1 }}|{{ squote \"a\" }}", "\"a\\\"b\" \"1\"|'a'"),
        (
            "{{ trim \" a \" }}{{ trimAll \"$\" \"$5$\" }}{{ trimSuffix \"-\" \"a-\" }}{{ trimPrefix \"-\" \"-a\" }}",
            "a5aa",
        ),
        (
            "{{ upper \"a\" }}{{ lower \"B\" }}{{ title \"hello wor-ld\" }}{{ untitle \"Ab Cd\" }}",
            "AbHello Wor-Ldab cd",
        ),
        ("{{ replace \":\" \"-\" .device_1 }}", "52-54-00-00-00-11"),
        (
            "{{ contains \"b\" \"abc\" }}{{ hasPrefix \"a\" \"abc\" }}{{ hasSuffix \"a\" \"abc\" }}",
            "truetruefalse",
        ),
        (
            "{{ (split \"/\" \"a/b\")._1 }}{{ splitList \"/\" \"a/b\" | join \"-\" }}{{ (splitn \"/\" 2 \"a/b/c\")._1 }}",
            "ba-bb/c",
        ),
        ("{{ indent 2 \"a\\nb\" }}|{{ nindent 2 \"a\" }}", "  a\n  b|\n  a"),
        (
            "{{ substr 1 3 \"hello\" }}{{ trunc 2 \"hello\" }}{{ trunc -2 \"hello\" }}{{ substr 3 -1 \"hello\" }}",
            "elhelolo",
        ),
        (
            "{{ snakecase \"FirstName\" }} {{ snakecase \"HTTPServer\" }} {{ camelcase \"http_server\" }} {{ kebabcase \"FirstName\" }}",
            "first_name http_server HttpServer first-name",
        ),
        ("{{ abbrev 5 \"hello world\" }} {{ abbrevboth 5 10 \"1234 5678 9123\" }}", "he... ...5678..."),
        (
            "{{ cat \"a\" 1 \"b\" }}{{ nospace \"a b\" }}{{ repeat 2 \"x\" }}{{ initials \"First Try\" }}{{ swapcase \"aB\" }}",
            "a 1 babxxFTAb",
        ),
        ("{{ wrap 5 \"aa bb cc\" }}|{{ plural \"one\" \"many\" 2 }}", "aa bb\ncc|many"),
        (
            "{{ regexMatch \"^a+$\" \"aaa\" }}{{ regexFind \"[0-9]+\" \"a12\" }}{{ regexReplaceAll \"a(x*)b\" \"-axxb-\" \"${1}W\" }}",
            "true12-xxW-",
        ),
        (
            "{{ regexReplaceAllLiteral \"a(x*)b\" \"-ab-\" \"${1}\" }}{{ regexSplit \"z+\" \"pizza\" -1 | join \",\" }}{{ regexFindAll \"[2,4]\" \"1234\" -1 }}",
            "-${1}-pi,a[2 4]",
        ),
        ("{{ regexQuoteMeta \"1.2\" }}", "1\\.2"),
        ("{{ toString 1.5 }}{{ toString true }}{{ list 1 \"a\" nil | toStrings }}", "1.5true[1 a]"),
    ] {
        ok(template, expected);
    }
}

#[test]
fn number_and_list_functions() {
    for (template, expected) in [
        (
            "{{ add 1 \"2\" 3 }} {{ sub 5 3 }} {{ mul 2 3 4 }} {{ div 7 2 }} {{ mod 7 4 }} {{ add1 1 }}",
            "6 2 24 3 3 2",
        ),
        (
            "{{ max 1 3 2 }} {{ min 3 1 }} {{ floor 1.7 }} {{ ceil 1.2 }} {{ round 123.5555 3 }}",
            "3 1 1 2 123.556",
        ),
        (
            "{{ addf 1.5 2 }} {{ divf 1 4 }} {{ int \"0x1F\" }} {{ int64 3.9 }} {{ float64 \"2.5\" }} {{ atoi \"x\" }}",
            "3.5 0.25 31 3 2.5 0",
        ),
        (
            "{{ until 3 }} {{ untilStep 3 9 2 }} {{ seq 3 }} {{ seq 2 -1 }} {{ seq 0 2 5 }}",
            "[0 1 2] [3 5 7] 1 2 3 2 1 0 -1 0 2 4",
        ),
        ("{{ toDecimal \"755\" }} {{ duration \"95\" }} {{ duration 3600 }}", "493 1m35s 1h0m0s"),
        (
            "{{ $l := list 1 2 2 }}{{ first $l }}{{ last $l }}{{ rest $l }}{{ initial $l }}{{ uniq $l }}{{ without $l 2 }}{{ reverse $l }}",
            "12[2 2][1 2][1 2][1][2 2 1]",
        ),
        (
            "{{ append (list 1) 2 }}{{ prepend (list 1) 2 }}{{ concat (list 1) (list 2 3) }}{{ has 2 (list 1 2) }}{{ compact (list 0 1 \"\") }}",
            "[1 2][2 1][1 2 3]true[1]",
        ),
        (
            "{{ chunk 2 (list 1 2 3) }}{{ slice (list 1 2 3) 1 2 }}{{ slice \"abc\" 1 }}{{ sortAlpha (list \"b\" \"a\") }}",
            "[[1 2] [3]][2]bc[a b]",
        ),
        (
            "{{ ternary 1 2 true }}{{ empty 0 }}{{ coalesce \"\" 0 \"z\" }}{{ all 1 0 }}{{ any 1 0 }}",
            "1truezfalsetrue",
        ),
        (
            "{{ kindOf 1 }} {{ kindOf (list) }} {{ typeOf (dict) }} {{ typeOf \"\" }} {{ kindIs \"map\" (dict) }}",
            "int slice map[string]interface {} string true",
        ),
    ] {
        ok(template, expected);
    }
    assert!(render("{{ div 1 0 }}", &data()).unwrap_err().to_string().contains("divide by zero"));
}

#[test]
fn encodings() {
    for (template, expected) in [
        (
            "{{ b64enc \"hi\" }} {{ b64dec \"aGk=\" }} {{ b32enc \"hi\" }} {{ b32dec \"NBUQ====\" }}",
            "aGk= hi NBUQ==== hi",
        ),
        ("{{ sha256sum \"\" }}", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            "{{ sha1sum \"\" }} {{ adler32sum \"Wikipedia\" }}",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709 300286872",
        ),
        (
            "{{ toJson (dict \"a\" \"<\") }} {{ toRawJson (dict \"a\" \"<\") }}",
            "{\"a\":\"\\u003c\"} {\"a\":\"<\"}",
        ),
        // A JSON number is a float in Go, and a big one prints with an exponent.
        (
            "{{ (fromJson \"{\\\"a\\\":1000000000000000000000}\").a }} {{ (fromJson \"{\\\"a\\\":5}\").a }} {{ fromJson \"[1]\" | toJson }}",
            "1e+21 5 [1]",
        ),
        ("{{ toYaml (dict \"b\" 1 \"a\" (list \"x\" \"no\")) }}", "a:\n- x\n- \"no\"\nb: 1"),
        ("{{ (fromYaml \"a: {b: 0x10}\").a.b }}{{ (fromYaml \"- 1\\n- 2\") }}", "16[1 2]"),
        (
            "{{ base \"/a/b.c\" }} {{ dir \"/a/b.c\" }} {{ ext \"/a/b.c\" }} {{ clean \"/a/../b//c\" }} {{ isAbs \"a\" }}",
            "b.c /a .c /b/c false",
        ),
        (
            "{{ (urlParse \"http://u:p@h:1/p?q#f\").host }} {{ urlParse \"http://u:p@h:1/p?q#f\" | urlJoin }}",
            "h:1 http://u:p@h:1/p?q#f",
        ),
    ] {
        ok(template, expected);
    }
    assert!(render("{{ fromYaml \"\" }}", &data()).is_err());
    ok("{{ (repeat 100 \"# x\\n\" | printf \"a:\\n%s  b: 2\\n\" | fromYaml).a.b }}", "2");
    let error = render("{{ fromYaml \"password: [hunter2\" }}", &data()).unwrap_err().to_string();
    assert!(error.contains("line") && !error.contains("hunter2"), "{error}");
}

#[test]
fn every_function_of_the_hermetic_set_is_there_or_refused() {
    let all = "abbrev abbrevboth add add1 add1f addf adler32sum ago all any append atoi b32dec b32enc b64dec b64enc base bcrypt biggest buildCustomCert camelcase cat ceil chunk clean coalesce compact concat contains decryptAES deepCopy deepEqual default derivePassword dict dig dir div divf duration durationRound empty encryptAES ext fail first float64 floor fromJson genCA genCAWithKey genPrivateKey genSelfSignedCert genSelfSignedCertWithKey genSignedCert genSignedCertWithKey get has hasKey hasPrefix hasSuffix hello htpasswd indent initial initials int int64 isAbs join kebabcase keys kindIs kindOf last list lower max maxf merge mergeOverwrite min minf mod mul mulf mustAppend mustChunk mustCompact mustDateModify mustDeepCopy mustFirst mustFromJson mustHas mustInitial mustLast mustMerge mustMergeOverwrite mustPrepend mustRegexFind mustRegexFindAll mustRegexMatch mustRegexReplaceAll mustRegexReplaceAllLiteral mustRegexSplit mustRest mustReverse mustSlice mustToDate mustToJson mustToPrettyJson mustToRawJson mustUniq mustWithout must_date_modify nindent nospace omit osBase osClean osDir osExt osIsAbs pick pluck plural prepend quote randInt regexFind regexFindAll regexMatch regexQuoteMeta regexReplaceAll regexReplaceAllLiteral regexSplit repeat replace rest reverse round semver semverCompare seq set sha1sum sha256sum sha512sum shuffle slice snakecase sortAlpha split splitList splitn squote sub subf substr swapcase ternary title toDate toDecimal toJson toPrettyJson toRawJson toString toStrings trim trimAll trimPrefix trimSuffix trimall trunc tuple typeIs typeIsLike typeOf uniq unixEpoch unset until untilStep untitle upper urlJoin urlParse values without wrap wrapWith";
    let mut count = 0;
    for name in all.split(' ') {
        count += 1;
        assert!(funcs::exists(name) != funcs::UNSUPPORTED.contains(&name), "{name}");
    }
    assert_eq!(count, 192);
}
