package ps

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

func TestParseStat(t *testing.T) {
	p, err := parseStat([]byte("12 (a) b\n) S 3 4 5 34816 7 4194304 1 2 3 4 250 50 0 0 20 5 3 0 100 4096000 10 18446744073709551615 1\n"))
	if err != nil || p.comm != "a) b\n" || p.state != "S" || p.ppid != 3 || p.used != 3*time.Second || p.nice != 5 || p.threads != 3 || p.begun != 100 || p.vsize != 4096000 {
		t.Errorf("%v: %+v", err, p)
	}
	if p.terminal() != "pts/0" || p.name() != "a) b?" || p.command() != "[a) b?]" || p.states() != "SNl" {
		t.Errorf("%q %q %q %q", p.terminal(), p.name(), p.command(), p.states())
	}
	for _, bad := range []string{"", "1", "1 (a", "1 (a) S 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (a) b) S 3 4 5 34816 7 4194304 1 2 3 4 250 50 0 0 20 5 3 0 100 4096000 10"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseStat(data)
		if err == nil {
			p.terminal()
			p.states()
			if strings.ContainsAny(p.command()+p.name(), "\n\x1b") {
				t.Errorf("%q", p.command())
			}
		}
	})
}

// TestList: what is shown of a process is what the machine's ps shows, whether the columns are known here or asked of that.
func TestList(t *testing.T) {
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip("needs ps (Debian: package procps)")
	}
	var pids []int
	for _, seconds := range []string{"1000", "2000"} {
		c := exec.Command("sleep", seconds)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
		pids = append(pids, c.Process.Pid)
	}
	nstest.Until(t, "both sleep", func() bool {
		table, err := List(t.Context(), []string{"-o", "pid,state"}, pids)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		sleeping := true
		for _, r := range table.Rows {
			pid, _ := strconv.Atoi(r[0])
			got = append(got, pid)
			sleeping = sleeping && r[1] == "S"
		}
		return sleeping && slices.Equal(got, pids)
	})
	for _, args := range [][]string{
		{}, {"-ef"}, {"-o", "pid,ppid,uid,user,gid,group,comm,tty,stat,ni,nlwp,vsz,pgid,sid,args"}, {"-eo", "pid,cmd"}, {"-o", "pid", "-o", "s"}, {"aux"},
		{"-eo", "pid,wchan:20,pri"}, {"-e", "-l"}, {"x"}, {"xf"}, {"axf"}, {"-o", "pid,cmd", "--sort=pid"},
	} {
		got, err := List(t.Context(), args, pids)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		ask := args
		if len(ask) == 0 {
			ask = []string{"-ef"}
		}
		if ask[0] == "-o" {
			ask = append([]string{"-e"}, ask...)
		}
		want, err := askProgram(t.Context(), ask, pids)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Titles, want.Titles) || len(got.Rows) != 2 {
			t.Errorf("%q: %q, %d rows; ps has %q", args, got.Titles, len(got.Rows), want.Titles)
			continue
		}
		for i, title := range want.Titles {
			if slices.Contains([]string{"TIME", "C", "%CPU", "%MEM", "RSS", "STIME", "START", "WCHAN"}, title) {
				continue // which change meanwhile
			}
			for r := range got.Rows {
				a, b := strings.Join(strings.Fields(got.Rows[r][i]), " "), want.Rows[r][i]
				if short, cut := strings.CutSuffix(b, "+"); a != b && !(cut && strings.HasPrefix(a, short)) { // ps cuts long numbers, too
					t.Errorf("%q: %s is %q, ps has %q", args, title, a, b)
				}
			}
		}
	}
	for _, args := range [][]string{{"-o", "comm"}, {"--nosuch"}} {
		if table, err := List(t.Context(), args, pids); err == nil && !slices.Contains(table.Titles, "COMMAND") {
			t.Errorf("%q: %v", args, table)
		}
	}
}

// TestGone: a process that has ended is left out.
func TestGone(t *testing.T) {
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Skip(err)
	}
	pids := []int{c.Process.Pid, os.Getpid()}
	if table, err := List(t.Context(), nil, pids); err != nil || len(table.Rows) != 1 || table.Rows[0][1] != strconv.Itoa(os.Getpid()) {
		t.Errorf("%v: %q", err, table)
	}
	if u := Sum(pids); u.Memory == 0 || u.Threads < 1 {
		t.Errorf("%+v", u)
	}
}

// TestStrangersText: what the machine's ps lets through of a process's name, busybox's for one, is in no table.
func TestStrangersText(t *testing.T) {
	got, err := parseTable("PID USER COMMAND\n7 root a \x1b[31mb\n8 root c\n", []int{7})
	if want := []string{"7", "root", "a ?[31mb"}; err != nil || len(got.Rows) != 1 || !slices.Equal(got.Rows[0], want) {
		t.Errorf("%q, %v; want %q", got.Rows, err, want)
	}
}
