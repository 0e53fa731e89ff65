package image

import (
	"encoding/json"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestChange: the lines of --change mean what they mean in a Dockerfile.
func TestChange(t *testing.T) {
	base := func() *Config {
		return &Config{ImageConfig: v1.ImageConfig{Cmd: []string{"old"}, Env: []string{"PATH=/bin", "A=a b", "E="}}}
	}
	for _, c := range []struct{ lines, want string }{
		{`ENV PATH=/x:$PATH`, `"Env":["PATH=/x:/bin","A=a b","E="]`},
		{`ENV B=$A C="$A $NO." D='$A' F=\$A G="\$A\n"`, `"Env":["PATH=/bin","A=a b","E=","B=a b","C=a b .","D=$A","F=$A","G=$A\\n"]`},
		{`ENV A=new B=$A`, `"Env":["PATH=/bin","A=new","E=","B=a b"]`},
		{"ENV A=new\nENV B=$A", `"Env":["PATH=/bin","A=new","E=","B=new"]`},
		{`ENV A 1  "2" $PATH`, `"Env":["PATH=/bin","A=1  2 /bin","E="]`},
		{`ENV B=${A}s C=${E:-x$A} D=${E-x} F=${E:+x} G=${A:+${NO:-y}} H=$1x I=$$ J=x$ K=${A:?none}${E?none} L=${NO+x}${E+x}`, `"Env":["PATH=/bin","A=a b","E=","B=a bs","C=xa b","D=","F=","G=y","H=x","I=","J=x$","K=a b","L=x"]`},
		{"ENV B=1 \\\n\n # between\n   C=2\\ 3\n\n# comment\nLABEL $A=\"${PATH}\" c=\\\\", `"Env":["PATH=/bin","A=a b","E=","B=1","C=2 3"]`},
		{"LABEL $A=\"${PATH}\" \"c d\"=\\\\\\\\", `"Labels":{"a b":"/bin","c d":"\\\\"}`},
		{`ENV B=${NO:-"}"}x C=${NO:-'}'} D="${NO:-"}"}" F=${NO:-\}} G=${NO:-"\"}"} H=${A:+{\"}}`, `"Env":["PATH=/bin","A=a b","E=","B=}x","C=}","D=}","F=}","G=\"}","H={\"}"]`},
		{`ENV B=${12}x C=$12x D=$@x F=$A_b G=${A_b:-é}é`, `"Env":["PATH=/bin","A=a b","E=","B=x","C=x","D=x","F=","G=éé"]`},
		{"ENV A\t1 \t2", `"Env":["PATH=/bin","A=1 \t2","E="]`},
		{"HEALTHCHECK --retries=2\tCMD\ttrue", `"Healthcheck":{"Test":["CMD-SHELL","true"],"Retries":2}`},
		{"CMD echo \\\n $A", `"Cmd":["/bin/sh","-c","echo  $A"]`},
		{"cmd\techo", `"Cmd":["/bin/sh","-c","echo"]`},
		{`ENTRYPOINT ["x"]`, `"Cmd":null`},
		{"CMD new\nENTRYPOINT [\"x\"]", `"Cmd":["/bin/sh","-c","new"]`},
		{"WORKDIR /w\nWORKDIR \"$A/c\"", `"WorkingDir":"/w/a b/c"`},
		{`USER ${NO:-7}:8`, `"User":"7:8"`},
		{`EXPOSE ${NO:-80}`, `"ExposedPorts":{"80/tcp":{}}`},
		{`VOLUME $PATH/x "/y z"`, `"Volumes":{"/bin/x":{},"/y z":{}}`},
		{`STOPSIGNAL ${NO-sigint}`, `"StopSignal":"sigint"`},
		{`ONBUILD ENV A=$A`, `"OnBuild":["ENV A=$A"]`},
	} {
		got := base()
		if err := Change(got, []string{c.lines}); err != nil {
			t.Errorf("%q: %v", c.lines, err)
			continue
		}
		text, _ := json.Marshal(got)
		if got.Cmd == nil {
			text = append(text, `"Cmd":null`...)
		}
		if !strings.Contains(string(text), c.want) {
			t.Errorf("%q: %s, want %s", c.lines, text, c.want)
		}
	}
	for _, bad := range []string{"STOPSIGNAL foo", "STOPSIGNAL", "ONBUILD ONBUILD RUN x", "ONBUILD from x", "ONBUILD FROM\tx", "ENV A", "ENV B=${NO:-\"}", "ENV B=${A", "ENV B=${}", "ENV B=${NO:?missing}", "ENV B=${NO?missing}", "ENV B=${E:?empty}", "WORKDIR $NO", "ENV B=${A/x/y}", "USER 'x", `USER "x`, "LABEL a=b\nRUN x", ""} {
		if err := Change(base(), []string{bad}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	wrong := base()
	if err := Change(wrong, []string{"STOPSIGNAL foo"}); err == nil || wrong.StopSignal != "" {
		t.Errorf("%q %v", wrong.StopSignal, err)
	}
	joined := base()
	if err := Change(joined, []string{"ENV B=1 \\", "C=2"}); err != nil || strings.Join(joined.Env, " ") != "PATH=/bin A=a b E= B=1 C=2" {
		t.Errorf("%v %v", joined.Env, err)
	}
}
