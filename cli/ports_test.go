package cli

import (
	"testing"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/network/reach"
)

func TestPortText(t *testing.T) {
	type ports = []engine.SummaryPort
	at := func(ip string, private, public uint16, proto string) engine.SummaryPort {
		return engine.SummaryPort{IP: ip, PrivatePort: private, PublicPort: public, Type: proto}
	}
	for _, c := range []struct {
		ports ports
		want  string
	}{
		{nil, ""},
		{ports{{PrivatePort: 80, Type: "tcp"}}, "80/tcp"},
		{ports{at("0.0.0.0", 80, 8080, "tcp"), at("::", 80, 8080, "tcp")}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"},
		{ports{at("0.0.0.0", 82, 82, "tcp"), at("0.0.0.0", 80, 80, "tcp"), at("0.0.0.0", 81, 81, "tcp")}, "0.0.0.0:80-82->80-82/tcp"},
		{ports{at("", 80, 0, "tcp"), at("", 81, 0, "tcp"), at("", 83, 0, "tcp"), at("", 83, 0, "udp")}, "80-81/tcp, 83/tcp, 83/udp"},
		{ports{at("127.0.0.1", 80, 80, "tcp"), at("0.0.0.0", 81, 81, "tcp"), at("0.0.0.0", 90, 9000, "udp"), at("", 22, 0, "tcp")}, "22/tcp, 127.0.0.1:80->80/tcp, 0.0.0.0:81->81/tcp, 0.0.0.0:9000->90/udp"},
		{ports{at("0.0.0.0", 80, 80, "tcp"), at("::", 80, 80, "tcp"), at("0.0.0.0", 81, 81, "tcp"), at("::", 81, 81, "tcp")}, "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp"},
	} {
		if got := portText(c.ports); got != c.want {
			t.Errorf("%v: %q, want %q", c.ports, got, c.want)
		}
	}
}

func TestQuestion(t *testing.T) {
	for text, want := range map[string]reach.Question{
		"8080": {Port: 8080, Proto: "tcp"}, "web:80": {Name: "web", Port: 80, Proto: "tcp"}, "53/udp": {Port: 53, Proto: "udp"}, "web:53/UDP": {Name: "web", Port: 53, Proto: "udp"},
		"": {}, "0": {}, "web": {}, ":80": {}, "80/x": {}, "65536": {},
	} {
		if got, err := parseQuestion(text); (err == nil) != (want.Port != 0) || err == nil && got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}
