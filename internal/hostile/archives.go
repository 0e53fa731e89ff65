package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A Verdict is what has to become of an archive.
type Verdict int

// Refused ends with an error, and the store is as it was. Taken ends without. Either may end in both ways:
// all that counts is that nothing outside was touched.
const (
	Refused Verdict = iota
	Taken
	Either
)

func (v Verdict) String() string { return [...]string{"refused", "taken", "either"}[v] }

// An Archive is one attack.
type Archive struct {
	Name string
	Why  string // what a naive program would do
	Open func() io.Reader
	// Layer and Plain are what becomes of it as the layer of an image, and as the content of a volume or of a copy.
	Layer, Plain Verdict
	// Tree is what is there afterwards, where it is taken: paths with their type, a letter as ls(1) has it and, for
	// regular files, ":" and the content, for links "> " and the target. An empty value means that nothing may be there. Only some are
	// named. PlainTree is for plain archives, where that differs.
	Tree, PlainTree map[string]string
	// Nodes has device nodes: a user without privileges gets none.
	Nodes bool
	// Compressed is not a tar itself.
	Compressed bool
	// Big takes seconds, or hundreds of megabytes of stream.
	Big bool
}

// PlainHolds is the tree of a plain archive.
func (a Archive) PlainHolds() map[string]string {
	if a.PlainTree != nil {
		return a.PlainTree
	}
	return a.Tree
}

// Archives are all of them; they aim at the directory canary of the host.
func Archives(canary string) []Archive {
	up := strings.Repeat("../", 40) + strings.TrimPrefix(canary, "/")
	return slices.Concat(
		places(canary, up), links(canary, up), whiteouts(canary), kinds(), names(), numbers(), attributes(), oddities(), streams(),
	)
}

func dir(name string) entry           { return entry{name: name + "/", kind: tar.TypeDir, mode: 0o755} }
func file(name string) entry          { return entry{name: name, content: "evil"} }
func symlink(name, to string) entry   { return entry{name: name, kind: tar.TypeSymlink, link: to} }
func hardlink(name, to string) entry  { return entry{name: name, kind: tar.TypeLink, link: to} }
func wild(name string, m int64) entry { return entry{name: name + "/", kind: tar.TypeDir, mode: m} }

// places are names that lead out of the root.
func places(canary, up string) []Archive {
	return []Archive{
		{Name: "dotdot_name", Why: "the name is joined to the root's path", Open: archive(file(up + "/victim"))},
		{Name: "dotdot_inside", Why: "the name goes up behind a directory", Open: archive(dir("a"), file("a/../../"+up+"/victim"))},
		{Name: "dotdot_stays", Why: "none: it ends in the root", Open: archive(dir("a"), file("a/../b")), Layer: Taken, Plain: Taken, Tree: map[string]string{"b": "-:evil"}},
		{Name: "absolute_name", Why: "the name is taken as it is", Open: archive(file(canary + "/victim")), Layer: Taken, Plain: Taken, Tree: map[string]string{canary[1:] + "/victim": "-:evil"}},
		{Name: "absolute_dotdot", Why: "the name goes up from /", Open: archive(file("/" + up + "/victim"))},
		{Name: "root_is_link", Why: "all that follows goes where the link leads (CVE-2021-29136)", Open: archive(symlink(".", canary), file("victim"))},
		{Name: "root_is_link_slash", Why: "the same, as /", Open: archive(symlink("/", canary), file("victim"))},
		{Name: "root_is_file", Why: "the root is replaced", Open: archive(entry{name: ".", content: "evil"})},
		{Name: "root_is_hardlink", Why: "the root is replaced", Open: archive(file("a"), hardlink("./", "a"))},
		{Name: "root_dir", Why: "none: the root has its own entry", Open: archive(dir("."), file("a")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "dot_segments", Why: "the same file by two names", Open: archive(file("./a/.//b/./c"), file("a/b/c")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a/b/c": "-:evil"}},
	}
}

// links have writing, linking and changing of permissions go through a link.
func links(canary, up string) []Archive {
	return []Archive{
		{Name: "dir_link_absolute", Why: "a later file is written through the link", Open: archive(symlink("a", canary), file("a/victim"))},
		{Name: "dir_link_relative", Why: "the same by ..", Open: archive(symlink("a", up), file("a/victim"))},
		{Name: "dir_link_chain", Why: "the same by two links", Open: archive(dir("d"), symlink("d/a", "../b"), symlink("b", canary), file("d/a/victim"))},
		{Name: "dir_link_inside", Why: "none: /lib leads to /usr/lib", Open: archive(dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/x")), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"usr/lib/x": "-:evil", "lib": "l> usr/lib"}},
		{Name: "dir_link_absolute_inside", Why: "the link leads to a directory of the image, not of the host", Open: archive(dir("tmp"), symlink("a", "/tmp"), file("a/x")), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"tmp/x": "-:evil"}},
		{Name: "dir_link_loop", Why: "the look-up never ends", Open: archive(symlink("a", "b"), symlink("b", "a"), file("a/x"))},
		{Name: "link_to_outside", Why: "none: a link is data", Open: archive(symlink("a", canary+"/secret"), symlink("proc", canary), symlink("etc", up)), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "l> " + canary + "/secret", "proc": "l> " + canary, "etc": "l> " + up}},
		{Name: "etc_is_link", Why: "accounts are written through the link", Open: archive(symlink("etc", canary), file("etc/passwd"))},
		{Name: "proc_is_link", Why: "what is mounted or written at /proc goes through the link", Open: archive(symlink("proc", canary), dir("proc/self"))},
		{Name: "sym_then_file", Why: "the file is written to what the link leads to", Open: archive(symlink("a", canary+"/victim"), file("a")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "sym_then_dir", Why: "permissions are changed through the link (CVE-2021-32760)", Open: archive(symlink("a", canary), wild("a", 0o777)), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "d"}},
		{Name: "dir_then_sym", Why: "a directory's time and permissions are set last, through the link that took its place", Open: archive(wild("a", 0o777), symlink("a", canary)), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "l> " + canary}},
		{Name: "dir_then_sym_then_file", Why: "the directory was seen, so the name is not looked up again", Open: archive(dir("a"), file("a/x"), symlink("a", canary), file("a/victim"))},
		{Name: "hard_absolute", Why: "a file of the host gets a name in the root", Open: archive(hardlink("a", canary+"/secret"))},
		{Name: "hard_dotdot", Why: "the same by ..", Open: archive(hardlink("a", up+"/secret"))},
		{Name: "hard_through_link", Why: "the same through a link", Open: archive(symlink("s", canary), hardlink("a", "s/secret"))},
		{Name: "hard_to_link", Why: "the file of the host that the link leads to gets a name in the root", Open: archive(symlink("s", canary+"/secret"), hardlink("a", "s")), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "l> " + canary + "/secret"}},
		{Name: "hard_to_link_then_file", Why: "the file is written through a second name of the link", Open: archive(symlink("s", canary+"/victim"), hardlink("a", "s"), file("a")), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "-:evil", "s": "l> " + canary + "/victim"}},
		{Name: "hard_then_file", Why: "the other name is written as well", Open: archive(entry{name: "a", content: "good"}, hardlink("b", "a"), file("b")), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "-:good", "b": "-:evil"}},
		{Name: "hard_to_directory", Why: "a loop in the tree", Open: archive(dir("a"), hardlink("a/b", "a"))},
		{Name: "hard_to_itself", Why: "the file is removed to make place for its link", Open: archive(file("a"), hardlink("a", "a"))},
		{Name: "hard_to_nothing", Why: "", Open: archive(hardlink("a", "b"))},
		{Name: "hard_twice", Why: "none: the name is there already", Open: archive(file("a"), hardlink("b", "a"), hardlink("b", "a")), Layer: Taken, Plain: Taken, Tree: map[string]string{"b": "-:evil"}},
		{Name: "empty_link", Why: "", Open: archive(symlink("a", ""))},
		{Name: "long_link", Why: "", Open: archive(symlink("a", strings.Repeat("x", 5000)))},
	}
}

// whiteouts remove what they should not. Plain archives have files of these names.
func whiteouts(canary string) []Archive {
	plain := func(name string) map[string]string { return map[string]string{name: "-:evil"} }
	return []Archive{
		{Name: "whiteout_dotdot", Why: "the directory above the root is removed", Open: archive(file(".wh...")), Plain: Taken, Tree: plain(".wh...")},
		{Name: "whiteout_dot", Why: "the root is removed", Open: archive(file(".wh..")), Plain: Taken, Tree: plain(".wh..")},
		{Name: "whiteout_empty", Why: "the directory itself is removed", Open: archive(dir("a"), file("a/.wh.")), Plain: Taken, Tree: plain("a/.wh.")},
		{Name: "whiteout_through_link", Why: "a file of the host is removed", Open: archive(symlink("a", canary), file("a/.wh.secret"))},
		{Name: "whiteout_below", Why: "", Open: archive(file(".wh.a/b")), Plain: Taken, Tree: plain(".wh.a/b")},
		{Name: "opaque_root", Why: "the root is emptied, with what is mounted in it", Open: archive(file(".wh..wh..opq"), file("a")), Layer: Taken, Plain: Taken, Tree: plain("a")},
		{Name: "opaque_through_link", Why: "a directory of the host is emptied", Open: archive(symlink("a", canary), file("a/.wh..wh..opq"))},
		{Name: "notes_of_aufs", Why: "", Open: archive(dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("a")), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "-:evil", ".wh..wh.plnk": "", ".wh..wh.aufs": ""}, PlainTree: plain(".wh..wh.plnk/1.2")},
		{Name: "whiteout_then_file", Why: "", Open: archive(file(".wh.a"), file("a")), Layer: Taken, Plain: Taken, Tree: plain("a")},
		{Name: "file_then_whiteout", Why: "a whiteout hides the layer's own file", Open: archive(file("a"), file(".wh.a")), Layer: Taken, Plain: Taken, Tree: plain("a")},
		{Name: "hard_to_whiteout", Why: "", Open: archive(file(".wh.a"), hardlink("b", "a"))},
	}
}

// kinds are types of files, and changes of them.
func kinds() []Archive {
	node := func(name string, kind byte, major, minor int64) entry {
		return entry{name: name, kind: kind, mode: 0o666, major: major, minor: minor}
	}
	return []Archive{
		{Name: "devices", Why: "the container reads the host's disk", Open: archive(node("sda", tar.TypeBlock, 8, 0), node("mem", tar.TypeChar, 1, 1)), Layer: Taken, Plain: Taken, Nodes: true,
			Tree: map[string]string{"sda": "b", "mem": "c"}},
		{Name: "device_out_of_range", Why: "the number becomes another", Open: archive(node("a", tar.TypeChar, 1<<20, 1))},
		{Name: "fifo", Why: "who reads it waits for ever", Open: archive(node("etc/passwd", tar.TypeFifo, 0, 0)), Layer: Taken, Plain: Taken, Tree: map[string]string{"etc/passwd": "p"}},
		{Name: "fifo_then_file", Why: "who opens it to write waits for ever", Open: archive(node("a", tar.TypeFifo, 0, 0), file("a")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "file_below_fifo", Why: "", Open: archive(node("a", tar.TypeFifo, 0, 0), file("a/b"))},
		{Name: "file_below_file", Why: "", Open: archive(file("a"), file("a/b"))},
		{Name: "duplicates", Why: "the first stays", Open: archive(entry{name: "a", content: "first, and longer"}, file("a")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "type_changes", Why: "", Open: archive(file("a"), dir("a"), file("a/b"), symlink("a", "b"), dir("a"), file("a/c")), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "d", "a/b": "", "a/c": "-:evil"}},
		{Name: "directory_becomes_file", Why: "", Open: archive(dir("a/b/c"), file("a/b/c/d"), file("a")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "socket", Why: "", Open: archive(entry{name: "a", kind: 's'})},
		{Name: "setuid", Why: "none: but nobody of the host may get at it", Open: archive(entry{name: "a", content: "evil", mode: 0o6755}), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "closed_directory", Why: "a later entry cannot be made in it", Open: archive(wild("a", 0o111), file("a/b")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a/b": "-:evil"}},
		{Name: "global_header", Why: "a record for all entries changes their names", Open: globalHeader, Layer: Either, Plain: Either},
	}
}

func globalHeader() io.Reader {
	return io.MultiReader(bytes.NewReader(paxHeader('g', map[string]string{"comment": "x", "path": "../../x"})), archive(file("a"))())
}

// names are what file systems and terminals do not take.
func names() []Archive {
	deep := strings.Repeat("d/", 1500) + "f"
	long := strings.Repeat(strings.Repeat("n", 249)+"/", 15) + strings.Repeat("f", 90)
	return []Archive{
		{Name: "name_of_300", Why: "", Open: archive(file(strings.Repeat("n", 300)))},
		{Name: "path_of_4096", Why: "", Open: archive(file(strings.Repeat(strings.Repeat("n", 127)+"/", 32) + "f"))},
		{Name: "path_of_3840", Why: "", Open: archive(file(long)), Layer: Taken, Plain: Taken, Tree: map[string]string{long: "-:evil"}},
		{Name: "depth_1500", Why: "a recursion runs out of stack or descriptors", Open: archive(file(deep))},
		{Name: "nul_in_pax_path", Why: "the name is another one behind the check", Open: archive(entry{name: "a", content: "evil", pax: map[string]string{"path": "ok\x00/../../x"}})},
		{Name: "nul_in_pax_link", Why: "", Open: archive(entry{name: "a", kind: tar.TypeSymlink, link: "b", pax: map[string]string{"linkpath": "ok\x00x"}})},
		{Name: "newline", Why: "a list of names has a line more", Open: archive(file("a\nb"), file("\x1b]0;title\x07")), Layer: Taken, Plain: Taken, Tree: map[string]string{"a\nb": "-:evil", "\x1b]0;title\x07": "-:evil"}},
		{Name: "not_utf8", Why: "", Open: archive(file("\xff\xfe")), Layer: Taken, Plain: Taken, Tree: map[string]string{"\xff\xfe": "-:evil"}},
		{Name: "backslash", Why: "", Open: archive(file(`..\..\x`)), Layer: Taken, Plain: Taken, Tree: map[string]string{`..\..\x`: "-:evil"}},
		{Name: "case_twins", Why: "one name on some file systems", Open: archive(entry{name: "Name", content: "good"}, file("name")), Layer: Taken, Plain: Taken, Tree: map[string]string{"Name": "-:good", "name": "-:evil"}},
	}
}

// numbers are out of range.
func numbers() []Archive {
	return []Archive{
		{Name: "uid_2_32", Why: "the id becomes root's", Open: archive(entry{name: "a", uid: 1 << 32})},
		{Name: "uid_minus_1", Why: "chown takes it for: leave it", Open: archive(entry{name: "a", uid: 1<<32 - 1})},
		{Name: "uid_negative", Why: "", Open: archive(entry{name: "a", uid: -5})},
		{Name: "size_negative", Why: "the reader goes back, for ever", Open: archive(entry{name: "a", size: string(number(-512, 12))})},
		{Name: "size_huge", Why: "the disk fills", Open: archive(entry{name: "a", size: string(number(1<<50, 12))})},
		{Name: "pax_size_negative", Why: "", Open: archive(entry{name: "a", pax: map[string]string{"size": "-1"}})},
		{Name: "mtime_negative", Why: "", Open: archive(entry{name: "a", content: "evil", mtime: -1 << 40}), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "mtime_huge", Why: "", Open: archive(entry{name: "a", content: "evil", mtime: 1 << 60}), Layer: Either, Plain: Either},
		{Name: "pax_mtime_odd", Why: "", Open: archive(entry{name: "a", pax: map[string]string{"mtime": "9999999999999999999999.9"}})},
	}
}

// attributes are orders to overlayfs, and too many.
func attributes() []Archive {
	x := func(records ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(records); i += 2 {
			m["SCHILY.xattr."+records[i]] = records[i+1]
		}
		return m
	}
	flood := map[string]string{}
	for i := range 5000 {
		flood["SCHILY.xattr.user.a"+strconv.Itoa(i)] = strings.Repeat("v", 100)
	}
	capability := "\x01\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x00\xff\x01\x00\x00\x00\x00\x00\x00"
	with := func(e entry, records map[string]string) entry { e.pax = records; return e }
	taken := func(name, why string, e ...entry) Archive {
		return Archive{Name: name, Why: why, Open: archive(e...), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "d"}}
	}
	return []Archive{
		taken("xattr_trusted_overlay", "the layer shows another directory of its own choice", with(dir("a"), x("trusted.overlay.redirect", "/b", "trusted.overlay.opaque", "y"))),
		taken("xattr_user_overlay", "the same where overlays are mounted by users", with(dir("a"), x("user.overlay.redirect", "/b", "user.overlay.opaque", "y", "user.overlay.metacopy", "")), dir("b"), file("b/c")),
		taken("xattr_overlay_escaped", "the same, as overlayfs escapes it for overlays in overlays", with(dir("a"), x("user.overlay.overlay.opaque", "y"))),
		taken("xattr_acl", "an ACL gives a user what the mode does not", with(dir("a"), x("system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\x05\x00\x00\x00"+
			"\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"))),
		{Name: "xattr_acl_odd", Why: "a file with an ACL that the kernel cannot read is nobody's", Open: archive(with(dir("a"), x("system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff")))},
		taken("xattr_label", "a label of a security module", with(dir("a"), x("security.selinux", "system_u:object_r:etc_t:s0", "security.ima", "x", "security.apparmor", "x"))),
		{Name: "xattr_capability", Why: "none: programs have file capabilities", Open: archive(with(file("a"), x("security.capability", capability))), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "xattr_flood", Why: "memory, and more than an inode holds", Open: archive(with(file("a"), flood))},
		{Name: "xattr_long", Why: "", Open: archive(with(file("a"), x("user.a", strings.Repeat("v", 100<<10))))},
		{Name: "xattr_name_long", Why: "", Open: archive(with(file("a"), x("user."+strings.Repeat("n", 300), "v")))},
	}
}

// oddities are what the format lets be written.
func oddities() []Archive {
	sparse := func(version, key, value string) map[string]string {
		return map[string]string{"GNU.sparse.major": version[:1], "GNU.sparse.minor": version[1:], "GNU.sparse.name": "a", "GNU.sparse.realsize": "1099511627776", key: value}
	}
	return []Archive{
		{Name: "sparse_0_1_map", Why: "a map of a million pieces (CVE-2022-2879)", Open: archive(entry{name: "a", pax: map[string]string{
			"GNU.sparse.size": "1", "GNU.sparse.numblocks": "150000", "GNU.sparse.map": strings.TrimSuffix(strings.Repeat("0,0,", 150000), ",")}}), Layer: Either, Plain: Either},
		{Name: "sparse_1_0_map", Why: "a number of pieces that is believed (CVE-2025-58183)", Open: archive(entry{name: "a", content: "99999999999999\n" + strings.Repeat("0\n", 1000), pax: sparse("10", "GNU.sparse.realsize", "10")})},
		{Name: "sparse_old_map", Why: "extension headers without end", Open: oldSparse},
		{Name: "sparse_huge", Why: "a terabyte of zeros from a kilobyte", Open: archive(entry{name: "a", content: "1\n1099511627775\n1\n" + strings.Repeat("\x00", 512-18) + "x", pax: sparse("10", "GNU.sparse.realsize", "2199023255552")})},
		{Name: "sparse_small", Why: "none", Open: archive(entry{name: "a", content: "1\n4096\n4\n" + strings.Repeat("\x00", 512-9) + "evil", pax: sparse("10", "GNU.sparse.realsize", "4100")}), Layer: Taken, Plain: Taken,
			Tree: map[string]string{"a": "-:" + strings.Repeat("\x00", 4096) + "evil"}},
		{Name: "pax_record_of_2_MiB", Why: "memory", Open: archive(entry{name: "a", pax: map[string]string{"comment": strings.Repeat("c", 2<<20)}})},
		{Name: "pax_malformed", Why: "", Open: archive(entry{name: "x", kind: 'x', content: "99999999999999999999 path=a\n"}, file("a"))},
		{Name: "pax_delete", Why: "", Open: archive(entry{name: "a", content: "evil", pax: map[string]string{"path": "", "SCHILY.xattr.user.a": ""}}), Layer: Taken, Plain: Taken, Tree: map[string]string{"a": "-:evil"}},
		{Name: "long_names_without_end", Why: "each is a name for the next", Open: longNames, Layer: Either, Plain: Either},
		{Name: "wrong_checksum", Why: "", Open: archive(entry{name: "a", sum: true})},
		{Name: "unknown_type", Why: "", Open: archive(entry{name: "a", kind: 'Z', content: "evil"})},
		{Name: "no_tar", Why: "", Open: func() io.Reader { return strings.NewReader(strings.Repeat("this is no archive. ", 200)) }},
		{Name: "empty", Why: "none", Open: archive(), Layer: Taken, Plain: Taken},
		{Name: "million_files", Why: "memory, and inodes", Open: func() io.Reader { return Files(1000000) }, Layer: Taken, Plain: Taken, Big: true},
	}
}

func oldSparse() io.Reader {
	head := entry{name: "a", kind: tar.TypeGNUSparse, special: func(h []byte) {
		copy(h[257:], "ustar  \x00")
		copy(h[483:], "00000000001\x00")
		h[482] = 1
	}}.bytes()
	ext := make([]byte, 512)
	for i := range 21 {
		copy(ext[i*24:], "00000000000\x0000000000000\x00")
	}
	ext[504] = 1
	return io.MultiReader(bytes.NewReader(head), bytes.NewReader(bytes.Repeat(ext, 10000)))
}

func longNames() io.Reader {
	one := entry{name: "././@LongLink", kind: tar.TypeGNULongName, content: strings.Repeat("n", 500) + "\x00"}
	one.special = func(h []byte) { copy(h[257:], "ustar  \x00") }
	return bytes.NewReader(bytes.Repeat(one.bytes(), 20000))
}

// Files is a tar of n empty files, a thousand in a directory, which is made while it is read.
func Files(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		for i := range n {
			if _, err := w.Write(entry{name: fmt.Sprintf("d%d/f%d", i/1000, i)}.bytes()); err != nil {
				return
			}
		}
		w.Write(make([]byte, 1024))
		w.Close()
	}()
	return r
}

// streams are compressed, or cut.
func streams() []Archive {
	return []Archive{
		{Name: "gzip_bomb", Why: "a gigabyte from a megabyte", Open: gzipBomb, Compressed: true, Big: true},
		{Name: "gzip_trailing_junk", Why: "what is behind the end is another archive", Open: gzipJunk, Compressed: true, Layer: Either, Plain: Either},
		{Name: "gzip_cut", Why: "", Open: func() io.Reader { return io.LimitReader(zipped(archive(file("a"))()), 30) }, Compressed: true},
		{Name: "zstd_window", Why: "two gigabytes of memory for nine bytes", Open: func() io.Reader {
			return bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00})
		}, Compressed: true},
	}
}

func zipped(r io.Reader) io.Reader {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.Copy(w, r)
	w.Close()
	return &b
}

func gzipBomb() io.Reader {
	r, w := io.Pipe()
	go func() {
		z := gzip.NewWriter(w)
		z.Write(entry{name: "a", size: string(number(1<<30, 12))}.bytes())
		zeros := make([]byte, 1<<20)
		for range 1 << 10 {
			if _, err := z.Write(zeros); err != nil {
				return
			}
		}
		z.Write(make([]byte, 1024))
		z.Close()
		w.Close()
	}()
	return r
}

func gzipJunk() io.Reader {
	return io.MultiReader(zipped(archive(file("a"))()), zipped(archive(file("b"))()), strings.NewReader("junk"))
}

// Cut are the beginnings of an archive that has several kinds of entries, one for each block of 512 bytes.
// Each has to be refused or taken up to there.
func Cut() [][]byte {
	whole, _ := io.ReadAll(archive(
		dir("d"), file("d/"+strings.Repeat("n", 150)), entry{name: "e", content: strings.Repeat("c", 2000)}, symlink("l", strings.Repeat("t", 120)), hardlink("h", "e"),
		entry{name: "x", pax: map[string]string{"SCHILY.xattr.user.a": "b"}},
	)())
	var list [][]byte
	for n := 0; n <= len(whole); n += 512 {
		list = append(list, whole[:n])
	}
	return list
}
