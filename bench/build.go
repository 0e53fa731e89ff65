package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binary is one program of this module, built for the run.
type binary struct {
	Name string
	Path string
	Err  string // why there is none; else empty
}

// moduleRoot finds the directory of this module's go.mod, from the working directory upwards.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module github.com/kakuri/kakuri\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod of github.com/kakuri/kakuri above the working directory: run it as go run ./bench in the checkout")
		}
		dir = parent
	}
}

// buildAll builds each program on its own: one that does not build costs its rows, not the run.
func buildAll(ctx context.Context, module, bin string) []binary {
	goBuild := func(name, pkg string) binary {
		return build(ctx, name, filepath.Join(bin, name), module, func(out string) []string {
			return []string{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg}
		})
	}
	return []binary{
		goBuild("kakuri", "./cmd/kakuri"),
		goBuild("kakuri-runtime", "./cmd/kakuri-runtime"),
		goBuild("bare", "./bench/bare"),
		goBuild("netload", "./bench/netload"),
		buildFloor(ctx, module, bin),
	}
}

func buildFloor(ctx context.Context, module, bin string) binary {
	return build(ctx, "floor", filepath.Join(bin, "floor"), module, func(out string) []string {
		return []string{"gcc", "-O2", "-static", "-o", out, "bench/floor.c"}
	})
}

func build(ctx context.Context, name, out, module string, args func(out string) []string) binary {
	b := binary{Name: name, Path: out}
	argv := args(out)
	err := os.MkdirAll(filepath.Dir(out), 0o755)
	if err == nil {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var output []byte
		if output, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w", argv[0], err)
			if text := oneLine(string(output)); text != "" {
				err = fmt.Errorf("%w: %s", err, text)
			}
		}
	}
	if err != nil {
		b.Err = err.Error()
	}
	return b
}

// commit names the state of the sources, as git does; "unknown" outside of a git checkout.
func commit(ctx context.Context, module string) string {
	out, err := exec.CommandContext(ctx, "git", "-C", module, "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// oneLine makes one table cell of a program's complaint: its lines without those that
// only name a package, joined, and cut when they are many.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.Join(strings.Fields(line), " "); line != "" && !strings.HasPrefix(line, "# ") {
			lines = append(lines, line)
		}
	}
	joined := []rune(strings.Join(lines, "; "))
	const limit = 200
	if len(joined) > limit {
		return string(joined[:limit]) + " …"
	}
	return string(joined)
}
