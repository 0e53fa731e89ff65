package storage

import (
	"archive/tar"
	"strings"
)

// A shown is layers, and what a container sees of them. Each driver shows the same.
type shown struct {
	name   string
	layers [][]ent
	want   []string // without the root; owner 0:0 and then's time are the default
}

var many = strings.Repeat("x", 100_000)

func shownCases() []shown {
	pax := func(h tar.Header, records ...string) full {
		h.PAXRecords = map[string]string{}
		for i := 0; i < len(records); i += 2 {
			h.PAXRecords[records[i]] = records[i+1]
		}
		return full{Header: h}
	}
	return []shown{
		{"all types", [][]ent{{
			"d etc", "f etc/passwd root", "l bin usr/bin", "c null 1 3", "c far 4095 1048575", "b disk 8 17", "p fifo", "f empty ", "f big " + many,
			full{Header: tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755, Uid: 70000, Gid: 1 << 31}, text: "x"},
			full{Header: tar.Header{Typeflag: tar.TypeDir, Name: "sticky", Mode: 0o1777, Uid: 5, Gid: 6}},
		}}, []string{
			`d "etc" 755 0:0`, `f "etc/passwd" 644 0:0 "root"`, `l "bin" 0:0 -> "usr/bin"`, `c "null" 644 0:0 1,3`, `c "far" 644 0:0 4095,1048575`, `b "disk" 644 0:0 8,17`,
			`p "fifo" 644 0:0`, `f "empty" 644 0:0 ""`, `f "big" 644 0:0 "100000 bytes d69e6898"`, `f "suid" 6755 70000:2147483648 "x"`, `d "sticky" 1777 5:6`,
		}},
		{"later layers lie over earlier ones", [][]ent{
			{"d a", "f a/low low", "f a/both low", "d d", "f d/x x", "f f f"},
			{"d a 700", "f a/both up", "f a/up up", "f d file", "d f", "f f/in in"},
		}, []string{
			`d "a" 700 0:0`, `f "a/low" 644 0:0 "low"`, `f "a/both" 644 0:0 "up"`, `f "a/up" 644 0:0 "up"`, `f "d" 644 0:0 "file"`, `d "f" 755 0:0`, `f "f/in" 644 0:0 "in"`,
		}},
		{"whiteouts", [][]ent{
			{"d a", "f a/x x", "f a/y y", "d b", "f b/x x", "f gone gone"},
			{"d a", "f a/.wh.x ", "f .wh.b ", "f .wh.gone ", "f .wh.never "},
			{"d b", "f b/new new"},
		}, []string{`d "a" 755 0:0`, `f "a/y" 644 0:0 "y"`, `d "b" 755 0:0`, `f "b/new" 644 0:0 "new"`}},
		{"a whiteout does not hide its own layer", [][]ent{
			{"f x low", "d d", "f d/low low"},
			{"f x up", "f .wh.x ", "d d", "f d/up up", "f .wh.d "},
		}, []string{`f "x" 644 0:0 "up"`, `d "d" 755 0:0`, `f "d/up" 644 0:0 "up"`}},
		{"opaque directories", [][]ent{
			{"d a", "f a/low low", "d a/sub", "f a/sub/low low"},
			{"d a", "f a/!first up", "f a/.wh..wh..opq ", "f a/up up"},
		}, []string{`d "a" 755 0:0`, `f "a/!first" 644 0:0 "up"`, `f "a/up" 644 0:0 "up"`}},
		{"an opaque root", [][]ent{
			{"f low low", "d d", "f d/low low"},
			{"f .wh..wh..opq ", "d d", "f d/up up"},
			{"f top top"},
		}, []string{`d "d" 755 0:0`, `f "d/up" 644 0:0 "up"`, `f "top" 644 0:0 "top"`}},
		{"notes of aufs are no files", [][]ent{{"f x x", "f .wh..wh.aufs ", "d .wh..wh.plnk", "f .wh..wh.plnk/1.2 x"}}, []string{`f "x" 644 0:0 "x"`}},
		{"a device 0:0 is a whiteout", [][]ent{{"f x x", "f y y"}, {"c x 0 0"}}, []string{`f "y" 644 0:0 "y"`}},
		{"hard links", [][]ent{
			{"d a", "f a/x text", "h a/y a/x", "h z a/y", "l s target", "h s2 s"},
			{"f other other"},
		}, []string{
			`d "a" 755 0:0`, `f "a/x" 644 0:0 "text" links=3 of "a/x"`, `f "a/y" 644 0:0 "text" links=3 of "a/x"`, `f "z" 644 0:0 "text" links=3 of "a/x"`, `f "other" 644 0:0 "other"`,
			`l "s" 0:0 -> "target" links=2 of "s"`, `l "s2" 0:0 -> "target" links=2 of "s"`,
		}},
		{"duplicates: the last one counts", [][]ent{{"f x one", "h y x", "f x two", "l z x", "f z three", "d d", "f d/in in", "f d file", "f e x", "d e 711"}}, []string{
			`f "x" 644 0:0 "two"`, `f "y" 644 0:0 "one"`, `f "z" 644 0:0 "three"`, `f "d" 644 0:0 "file"`, `d "e" 711 0:0`,
		}},
		{"extended attributes", [][]ent{{
			pax(tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o755}, "SCHILY.xattr.user.a", "1", "SCHILY.xattr.security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
				"SCHILY.xattr.user.overlay.opaque", "y", "SCHILY.xattr.trusted.overlay.redirect", "/etc"),
			pax(tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755}, "SCHILY.xattr.user.long", strings.Repeat("v", 2000), "SCHILY.xattr.user.b", "zzzzz"),
			full{Header: tar.Header{Typeflag: tar.TypeReg, Name: "odd", Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.odd": "12345"}}, text: "content"},
			pax(tar.Header{Typeflag: tar.TypeReg, Name: "acl", Mode: 0o640}, "SCHILY.xattr.system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x21\x00\x00\x00\x04\x00\x00\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"),
		}}, []string{
			`f "f" 755 0:0 "" security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" user.a="1"`,
			`d "d" 755 0:0 user.b="zzzzz" user.long="` + strings.Repeat("v", 2000) + `"`,
			`f "odd" 644 0:0 "content" user.odd="12345"`,
			`f "acl" 640 0:0 "" system.posix_acl_access="\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00!\x00\x00\x00\x04\x00\x00\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff \x00\x00\x00\xff\xff\xff\xff"`,
		}},
		{"times", [][]ent{{
			full{Header: tar.Header{Typeflag: tar.TypeReg, Name: "old", Mode: 0o644, ModTime: then.AddDate(-60, 0, 0)}, text: ""},
			full{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "far", Linkname: "x", ModTime: then.AddDate(300, 0, 0)}},
		}}, []string{`f "old" 644 0:0 1960-09-13T12:26:40.123456789Z ""`, `l "far" 0:0 -> "x" 2320-09-13T12:26:40.123456789Z`}},
		{"names", [][]ent{{
			"f new\nline x", "f \xff\xfe\x01 x", "f " + strings.Repeat("n", 255) + " x", "l long " + strings.Repeat("t/", 2047) + "t", "l short " + strings.Repeat("s", 420),
			"f /absolute x", "f ./dot/./file x", "f up/../beside x", "l out ../../../etc/passwd",
		}}, []string{
			`f "new\nline" 644 0:0 "x"`, `f "\xff\xfe\x01" 644 0:0 "x"`, `f "` + strings.Repeat("n", 255) + `" 644 0:0 "x"`,
			`l "long" 0:0 -> "` + strings.Repeat("t/", 2047) + `t"`, `l "short" 0:0 -> "` + strings.Repeat("s", 420) + `"`,
			`f "absolute" 644 0:0 "x"`, `d "dot" 755 0:0`, `f "dot/file" 644 0:0 "x"`, `f "beside" 644 0:0 "x"`, `l "out" 0:0 -> "../../../etc/passwd"`,
		}},
		{"links of a layer lead within it", [][]ent{{
			"d usr", "d usr/lib", "l lib usr/lib", "f lib/a a", "l abs /usr", "f abs/b b", "l up ../../usr", "f up/c c", "h d abs/b",
		}}, []string{
			`d "usr" 755 0:0`, `d "usr/lib" 755 0:0`, `l "lib" 0:0 -> "usr/lib"`, `f "usr/lib/a" 644 0:0 "a"`, `l "abs" 0:0 -> "/usr"`, `f "usr/b" 644 0:0 "b" links=2 of "d"`,
			`l "up" 0:0 -> "../../usr"`, `f "usr/c" 644 0:0 "c"`, `f "d" 644 0:0 "b" links=2 of "d"`,
		}},
		{"a directory takes the place of a lower layer's link", [][]ent{{"d usr", "l lib usr"}, {"d lib", "f lib/x x"}}, []string{`d "usr" 755 0:0`, `d "lib" 755 0:0`, `f "lib/x" 644 0:0 "x"`}},
		{"a layer that comes again", [][]ent{{"f x one", "f y one"}, {"f x two", "f .wh.y "}, {"f x one", "f y one"}}, []string{`f "x" 644 0:0 "one"`, `f "y" 644 0:0 "one"`}},
		{"an empty layer", [][]ent{{}, {"f x x"}, {}}, []string{`f "x" 644 0:0 "x"`}},
	}
}
