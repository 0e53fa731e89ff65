package ps

import (
	"context"
	"time"

	"github.com/kakuri/kakuri/namespace"
)

// A Table is what ps(1) prints.
type Table struct {
	Titles []string
	Rows   [][]string
}

// List shows the processes that are given, by options of ps(1): none is -ef. Those that have ended are left out.
func List(ctx context.Context, options []string, pids []int) (Table, error) {
	columns, ok := columnsOf(options)
	if !ok {
		return askProgram(ctx, options, pids)
	}
	t := Table{}
	for _, c := range columns {
		t.Titles = append(t.Titles, c.title)
	}
	m := machineNow()
	var args namespace.ArgsReader
	for _, pid := range pids {
		p, err := readTask(pid, &args)
		if err != nil {
			continue // it has ended
		}
		var row []string
		for _, c := range columns {
			row = append(row, c.value(&p, m))
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// A Use is what processes have together.
type Use struct {
	CPU     time.Duration // of processors, since each began
	Memory  uint64        // bytes that are in memory
	Threads uint64
}

// Sum adds up what the processes that are given use. Those that have ended are not counted.
func Sum(pids []int) (u Use) {
	for _, pid := range pids {
		p, err := readTask(pid, nil)
		if err != nil {
			continue
		}
		u.CPU += p.used
		u.Memory += uint64(p.rss)
		u.Threads += uint64(p.threads)
	}
	return u
}
