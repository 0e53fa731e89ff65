package reach

import (
	"net/netip"

	"github.com/kakuri/kakuri/ui"
)

// A sentence is what a verdict says, in whatever language it is asked for: arguments may be sentences themselves.
type sentence struct {
	text ui.Text
	args []any
}

func said(t ui.Text, args ...any) sentence { return sentence{t, args} }

// in is the sentence in a language. What others have named, as a process, a device or a rule of a container's own, may have been named to act on a
// terminal, or to be a line of the answer: control characters are written out.
func (s sentence) in(l ui.Lang) string {
	args := make([]any, len(s.args))
	for i, a := range s.args {
		switch v := a.(type) {
		case interface{ in(ui.Lang) string }:
			a = v.in(l)
		case string:
			a = ui.Escape(v)
		case error:
			a = ui.Escape(v.Error())
		}
		args[i] = a
	}
	return l.Say(s.text, args...)
}

// none is no way out.
var none sentence

// plain is text that is the same in all languages, as a command.
func plain(format string, args ...any) sentence {
	return said(ui.Text{EN: format, JA: format}, args...)
}

// say are the sentences of a verdict.
var say = struct {
	Is, IsPaused, InNamespaceOf, HostsOwn, NoLook, NoNetwork                   ui.Text
	HasPort, Nobody, Monitor, Unseen, Process                                  ui.Text
	NobodyListens, Loopback, OtherFamily                                       ui.Text
	HostNamespace                                                              ui.Text
	NoDevice, DeviceDown, NoAddress, NoDefault                                 ui.Text
	NoBridge, BridgeDown, NoRoute, OtherRoute                                  ui.Text
	NoEnd, EndAtNone, EndElsewhere, EndDown                                    ui.Text
	Internal, Isolated, InternalPublished, NotPublished                        ui.Text
	AskedInternal, AskedNowhere, ContainerHas, ProgramHas                      ui.Text
	StopIt, ForContainer, ConnectBridge, BridgeUp, PublishedMore, ShowsPort    ui.Text
	YesHosts, AsMeant                                                          ui.Text
	HasPortToo, NoTable, NotForwarded                                          ui.Text
	HasPortLed, PortLed, LedTo, AskEngine                                      ui.Text
	Place, Rule, Policy, Drops, HasDropped, MayDrop                            ui.Text
	DropsOwn, MayDropOwn, FirewalldIn, FirewalldOut                            ui.Text
	DropsAnswer, DropsAnswers, MayDropAnswer, MayDropAnswers, AllowAnswers     ui.Text
	Legacy, LegacySave                                                         ui.Text
	DockerAnswers                                                              ui.Text
	TestFailed, NoReply, LoopbackOnly, Fine, FineRouted                        ui.Text
	ConnectPrivate, ConnectApart, ConnectBoth                                  ui.Text
	AsRoot, AsRootRules, Connect, ConnectOpen, EndProgram                      ui.Text
	RunPublish, PublishedIs, ListenOn, PublishOther, ListenAt                  ui.Text
	ListenAll, Again, AgainLink, UpInside, OtherSubnet, Repair                 ui.Text
	OrReach, Shows, DockerUser, DockerGone, Firewalld, UFW, Verify, PublishAll ui.Text
	OfHost, Routed, OfContainer, Port                                          ui.Text
	Yes, No, Finding, Way, Tested, NotRead                                     ui.Text
	Inside, Host, Network                                                      ui.Text
}{
	Is:            ui.Text{EN: "%s is %s", JA: "%s の状態は %s です"},
	IsPaused:      ui.Text{EN: "%s is paused: connections are taken, and none of its programs answers", JA: "%s は一時停止しています。接続は受け付けられますが、中のプログラムは応答しません"},
	InNamespaceOf: ui.Text{EN: "%s is in the network namespace of %s: what is published is %[2]s's", JA: "%s は %s のネットワーク名前空間にいます。公開されるのは %[2]s のポートです"},
	HostsOwn:      ui.Text{EN: "%s is in the host's namespace: the port is the host's own, and the host's firewall decides", JA: "%s はホストの名前空間にいます。ポートはホスト自身のもので、ホストのファイアウォールが決めます"},
	NoLook:        ui.Text{EN: "the network namespace of %s cannot be looked into", JA: "%s のネットワーク名前空間の中を見られません"},
	NoNetwork:     ui.Text{EN: "only what is inside %s reaches it", JA: "%s には中からしか届きません"},

	ProgramHas:   ui.Text{EN: "%s has port %d/%s of the host, at %s", JA: "ホストのポート %[2]d/%[3]s は、%[1]s が %[4]s で使っています"},
	ContainerHas: ui.Text{EN: "container %s has port %d/%s of the host, at %s", JA: "ホストのポート %[2]d/%[3]s は、コンテナ %[1]s が %[4]s で使っています"},

	HasPort:    ui.Text{EN: "%s has port %d/%s of the host, at %s, and no container publishes it", JA: "ホストのポート %[2]d/%[3]s は %[1]s が %[4]s で使っており、公開しているコンテナはありません"},
	HasPortLed: ui.Text{EN: "%s has port %d/%s of the host, at %s, for rules of another program that lead it to %s: another engine's container, which kakuri knows nothing more of", JA: "ホストのポート %[2]d/%[3]s は %[1]s が %[4]s で使っており、ほかのプログラムの規則が %[5]s へ導いています。別のエンジンのコンテナで、kakuri にはそれ以上わかりません"},
	PortLed:    ui.Text{EN: "port %d/%s of the host is led to %s, by rules of another program: another engine's container, which kakuri knows nothing more of", JA: "ホストのポート %d/%s は、ほかのプログラムの規則が %s へ導いています。別のエンジンのコンテナで、kakuri にはそれ以上わかりません"},
	LedTo:      ui.Text{EN: "%s by %s (table %s %s, chain %s, handle %d)", JA: "%s(デバイス %s、テーブル %s %s、チェイン %s、ハンドル %d)"},
	AskEngine:  ui.Text{EN: "ask that engine, by docker ps or podman ps; this machine's own programs may reach it where others are dropped", JA: "そのエンジンに docker ps や podman ps で尋ねてください。このマシン自身からは届いても、ほかからは捨てられることがあります"},
	Nobody:     ui.Text{EN: "no container publishes port %d/%s of the host, and no program listens on it", JA: "ホストのポート %d/%s を公開しているコンテナはなく、待ち受けているプログラムもありません"},
	Monitor:    ui.Text{EN: "the monitor of container %s", JA: "コンテナ %s のモニター"},
	Unseen:     ui.Text{EN: "a process that cannot be seen", JA: "ここからは見えないプロセス"},
	Process:    ui.Text{EN: "%s (pid %d)", JA: "%s(pid %d)"},

	NobodyListens: ui.Text{EN: "no program has port %d/%s in %s", JA: "%[3]s の中に、ポート %[1]d/%[2]s を使うプログラムはありません"},
	Loopback:      ui.Text{EN: "%s listens at %s only, the loopback of %s, which nobody else reaches", JA: "%s は %s だけで待ち受けています。%s のループバックで、ほかからは届きません"},
	OtherFamily:   ui.Text{EN: "%s listens at %s, and what is published leads to %s, too", JA: "%s は %s で待ち受けていますが、公開は %s にもつながります"},
	HostNamespace: ui.Text{EN: "the host's namespace, which %s shares", JA: "%s が共有するホストの名前空間"},

	NoDevice:   ui.Text{EN: "%s has no device %s, which network %s had made", JA: "%s に、ネットワーク %[3]s が作った機器 %[2]s がありません"},
	DeviceDown: ui.Text{EN: "device %s of %s is down", JA: "%[2]s の機器 %[1]s が down です"},
	NoAddress:  ui.Text{EN: "device %s of %s has not the address %s any more", JA: "%[2]s の機器 %[1]s に、アドレス %[3]s がもうありません"},
	NoDefault:  ui.Text{EN: "%s has no default route for %s: answers to other machines do not leave it", JA: "%s に %s のデフォルト経路がなく、ほかのマシンへの返事が出ていきません"},

	NoBridge:   ui.Text{EN: "bridge %s of network %s is not there any more", JA: "ネットワーク %[2]s のブリッジ %[1]s がもうありません"},
	BridgeDown: ui.Text{EN: "bridge %s of network %s is down", JA: "ネットワーク %[2]s のブリッジ %[1]s が down です"},
	NoRoute:    ui.Text{EN: "the host has no route to %s, which network %s should have made", JA: "ネットワーク %[2]s が作るはずの、%[1]s への経路がホストにありません"},
	OtherRoute: ui.Text{EN: "the host's route to %s leads to %s, and not to bridge %s", JA: "ホストから %s への経路は、ブリッジ %[3]s ではなく %[2]s に向いています"},

	NoEnd:        ui.Text{EN: "%s, the host's end of the container's cable, is not there any more", JA: "コンテナのケーブルのホスト側 %s がもうありません"},
	EndAtNone:    ui.Text{EN: "%s, the host's end of the container's cable, is at no bridge; it belongs at %s", JA: "コンテナのケーブルのホスト側 %s がどのブリッジにもつながっていません。つながる先は %s です"},
	EndElsewhere: ui.Text{EN: "%s, the host's end of the container's cable, is at bridge %s; it belongs at %s", JA: "コンテナのケーブルのホスト側 %s がブリッジ %s につながっています。つながる先は %s です"},
	EndDown:      ui.Text{EN: "%s, the host's end of the container's cable, is down", JA: "コンテナのケーブルのホスト側 %s が down です"},

	Internal:          ui.Text{EN: "network %s is internal: its containers and this machine reach what is on it, other networks and other machines do not", JA: "ネットワーク %s は内部専用です。そのコンテナどうしとこのマシンからは届き、ほかのネットワークやほかのマシンからは届きません"},
	Isolated:          ui.Text{EN: "network %s is internal, of gateway mode isolated for %s: its bridge has no address there, and by design only its containers reach each other, not even this machine reaches them", JA: "ネットワーク %s は内部専用で、%s のゲートウェイモードは isolated です。ブリッジにそのアドレスはなく、届くのはそのコンテナどうしだけで、このマシンからも届かないのが仕様です"},
	AskedInternal:     ui.Text{EN: "%s asked for port %d/%s of the host, and nothing is published there: %s", JA: "%s はホストのポート %d/%s を求めましたが、公開されていません。%s"},
	AskedNowhere:      ui.Text{EN: "%s asked for port %d/%s of the host, and is on no network by which a port is published", JA: "%s はホストのポート %d/%s を求めましたが、ポートを公開できるネットワークに入っていません"},
	InternalPublished: ui.Text{EN: "network %s is internal, so what is published there is cut off", JA: "ネットワーク %s は内部専用なので、そこで公開したものは切り離されています"},
	NotPublished:      ui.Text{EN: "port %d/%s of %s is not published: this machine and its networks reach it, other machines do not", JA: "%[3]s のポート %[1]d/%[2]s は公開されていません。このマシンとそのネットワークからは届き、ほかのマシンからは届きません"},
	HasPortToo:        ui.Text{EN: "%s has port %d/%s of the host at %s, too", JA: "%s も、ホストのポート %d/%s を %s で使っています"},
	NoTable:           ui.Text{EN: "the table \"inet kakuri\" of nftables is not there: another program has flushed the rules", JA: "nftables のテーブル inet kakuri がありません。ほかのプログラムが規則を消しました"},
	NotForwarded:      ui.Text{EN: "the host does not forward %s (%s is 0): what other machines send goes no further", JA: "ホストが %s を転送しません(%s が 0)。ほかのマシンから来たものは先へ進みません"},

	Place:      ui.Text{EN: "table %s %s, chain %s (%s)", JA: "テーブル %s %s、チェイン %s(%s)"},
	Rule:       ui.Text{EN: "the rule of handle %d: %s", JA: "ハンドル %d の規則: %s"},
	Policy:     ui.Text{EN: "its policy is drop, and no rule before accepts", JA: "ポリシーが drop で、その前に accept する規則がありません"},
	Drops:      ui.Text{EN: "%s drops what other machines send to port %d: %s", JA: "%s は、ほかのマシンがポート %d に送るものを捨てます: %s"},
	HasDropped: ui.Text{EN: "%s has dropped %d packets while this was tested: %s", JA: "%s は、試している間に %d 個のパケットを捨てました: %s"},
	DropsOwn:   ui.Text{EN: "%s drops what this machine itself sends to port %d: %s", JA: "%s は、このマシン自身がポート %d に送るものを捨てます: %s"},
	MayDropOwn: ui.Text{EN: "%s may drop what this machine itself sends to port %d: %s", JA: "%s は、このマシン自身がポート %d に送るものを捨てるかもしれません: %s"},
	MayDrop:    ui.Text{EN: "%s may drop what other machines send to port %d: %s", JA: "%s は、ほかのマシンがポート %d に送るものを捨てるかもしれません: %s"},

	DropsAnswer:    ui.Text{EN: "%s drops what port %d answers this machine: %s", JA: "%s は、ポート %d からこのマシンへの返事を捨てます: %s"},
	DropsAnswers:   ui.Text{EN: "%s drops what port %d answers other machines: %s", JA: "%s は、ポート %d からほかのマシンへの返事を捨てます: %s"},
	MayDropAnswer:  ui.Text{EN: "%s may drop what port %d answers this machine: %s", JA: "%s は、ポート %d からこのマシンへの返事を捨てるかもしれません: %s"},
	MayDropAnswers: ui.Text{EN: "%s may drop what port %d answers other machines: %s", JA: "%s は、ポート %d からほかのマシンへの返事を捨てるかもしれません: %s"},
	AllowAnswers:   ui.Text{EN: "nft -a list chain %s %s %s shows it; accept answers before it: ct state established,related accept", JA: "nft -a list chain %s %s %s で見られます。その前で返事を許可してください: ct state established,related accept"},
	DockerAnswers:  ui.Text{EN: "allow answers in DOCKER-USER: iptables -I DOCKER-USER -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", JA: "DOCKER-USER で返事を許可してください: iptables -I DOCKER-USER -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"},

	TestFailed:   ui.Text{EN: "connecting from the host to %s gave: %s; of what is known here nothing stands in the way", JA: "ホストから %s につなぐと: %s。ここで分かる限り、妨げるものはありません"},
	NoReply:      ui.Text{EN: "what was sent from the host to %s was not seen to arrive, and nobody answered: a program need not, so that may mean nothing", JA: "ホストから %s に送ったものが届いたようすはなく、返事もありません。プログラムは返事をしなくてもよいので、問題とは限りません"},
	LoopbackOnly: ui.Text{EN: "it is published on %s: this machine reaches it, no other does", JA: "%s で公開されています。このマシンからは届き、ほかのマシンからは届きません"},
	Fine:         ui.Text{EN: "nothing stands in the way on this machine", JA: "このマシンに、妨げるものはありません"},
	FineRouted:   ui.Text{EN: "nothing stands in the way on this machine; other machines need a route to %s by it", JA: "このマシンに、妨げるものはありません。ほかのマシンには、このマシンを通る %s への経路が必要です"},

	AsRoot: ui.Text{EN: "run it as root", JA: "root で実行してください"},
	AsRootRules: ui.Text{EN: "it is most likely a firewall of the machine, whose rules an ordinary user cannot read: as root, nft list ruleset, and look for what drops port %d/%s at the hook input",
		JA: "マシンのファイアウォールが捨てている可能性が高く、その規則は一般ユーザーには読めません: root で nft list ruleset を実行し、input フックでポート %d/%s を捨てる規則を探してください"},
	Connect:        ui.Text{EN: "kakuri network connect NETWORK %s", JA: "kakuri network connect ネットワーク %s"},
	ConnectPrivate: ui.Text{EN: "kakuri network disconnect none %s; kakuri network connect NETWORK %[1]s", JA: "kakuri network disconnect none %s; kakuri network connect ネットワーク %[1]s"},
	ConnectApart:   ui.Text{EN: "kakuri stop %s; kakuri network connect NETWORK %[1]s; kakuri start %[1]s", JA: "kakuri stop %s; kakuri network connect ネットワーク %[1]s; kakuri start %[1]s"},
	ConnectBoth:    ui.Text{EN: "kakuri stop %s; kakuri network disconnect none %[1]s; kakuri network connect NETWORK %[1]s; kakuri start %[1]s", JA: "kakuri stop %s; kakuri network disconnect none %[1]s; kakuri network connect ネットワーク %[1]s; kakuri start %[1]s"},
	ConnectOpen:    ui.Text{EN: "kakuri network connect NETWORK %s, one that is not internal", JA: "kakuri network connect ネットワーク %s(内部専用でないもの)"},
	EndProgram:     ui.Text{EN: "publish another port of the host, or end that program", JA: "ホストの別のポートで公開するか、そのプログラムを終わらせてください"},
	RunPublish:     ui.Text{EN: "kakuri run -p %d:PORT …", JA: "kakuri run -p %d:ポート …"},
	PublishedIs:    ui.Text{EN: "%s; what is published is %s", JA: "%s。公開されているもの: %s"},
	ListenOn:       ui.Text{EN: "have its program listen on port %d", JA: "プログラムをポート %d で待ち受けさせてください"},
	PublishOther:   ui.Text{EN: "%s, or publish what it listens on: %s", JA: "%s。または、待ち受けているものを公開してください: %s"},
	ListenAt:       ui.Text{EN: "have it listen at %s in place of %s", JA: "%[2]s の代わりに %[1]s で待ち受けさせてください"},
	ListenAll:      ui.Text{EN: "have it listen at all addresses, of IPv4 and IPv6", JA: "IPv4 と IPv6 の、すべてのアドレスで待ち受けさせてください"},
	Again:          ui.Text{EN: "kakuri network disconnect %s %s, and connect it again", JA: "kakuri network disconnect %s %s をして、つなぎ直してください"},
	AgainLink:      ui.Text{EN: "connect it again: kakuri network disconnect, then connect", JA: "つなぎ直してください: kakuri network disconnect、続けて connect"},
	UpInside:       ui.Text{EN: "ip link set %s up, in the container's namespace, or connect it again", JA: "コンテナの名前空間で ip link set %s up をするか、つなぎ直してください"},
	OtherSubnet:    ui.Text{EN: "give network %s another subnet, or take the other route away", JA: "ネットワーク %s に別のサブネットを与えるか、もう一方の経路を消してください"},
	Repair:         ui.Text{EN: "kakuri system check --repair, or restart its containers", JA: "kakuri system check --repair、またはそのコンテナの再起動"},
	OrReach:        ui.Text{EN: "run it with -p %d:%d, or reach it from a container of its network as %s:%d", JA: "-p %d:%d を付けて実行するか、同じネットワークのコンテナから %s:%d で使ってください"},
	Shows:          ui.Text{EN: "nft -a list chain %s %s %s shows it; allow what goes to %s port %d/%s before it", JA: "nft -a list chain %s %s %s で見られます。%s のポート %d/%s へのものを、その前で許可してください"},
	DockerUser:     ui.Text{EN: "allow it in DOCKER-USER, where there is Docker: iptables -I DOCKER-USER -d %s -p %s --dport %d -j ACCEPT", JA: "Docker があるなら DOCKER-USER で許可してください: iptables -I DOCKER-USER -d %s -p %s --dport %d -j ACCEPT"},
	DockerGone:     ui.Text{EN: "no rule of FORWARD leads to DOCKER-USER any more, as after iptables -F: have dockerd make its rules anew, by systemctl restart docker", JA: "FORWARD から DOCKER-USER へ導く規則がありません(iptables -F の後など)。systemctl restart docker で、dockerd に規則を作り直させてください"},
	Firewalld:      ui.Text{EN: "firewalld decides here: have it let bridge %s pass by a zone, firewall-cmd --zone=trusted --add-interface=%[1]s, and with StrictForwardPorts=yes open the port, too: firewall-cmd --add-forward-port", JA: "ここは firewalld が決めます。ブリッジ %s をゾーンで通してください: firewall-cmd --zone=trusted --add-interface=%[1]s。StrictForwardPorts=yes なら、ポートも開けてください: firewall-cmd --add-forward-port"},
	FirewalldOut:   ui.Text{EN: "firewalld decides here: with StrictForwardPorts=yes, open the port: firewall-cmd --add-forward-port", JA: "ここは firewalld が決めます。StrictForwardPorts=yes なら、ポートを開けてください: firewall-cmd --add-forward-port"},
	FirewalldIn:    ui.Text{EN: "firewalld decides here: firewall-cmd --add-port=%d/%s", JA: "ここは firewalld が決めます: firewall-cmd --add-port=%d/%s"},
	Legacy:         ui.Text{EN: "iptables-legacy has tables here, and what its rules drop is not known: %s", JA: "ここには iptables-legacy のテーブルがあり、その規則が何を捨てるかは分かりません: %s"},
	LegacySave:     ui.Text{EN: "iptables-legacy-save and ip6tables-legacy-save show them; where they are Docker's: iptables-legacy -I DOCKER-USER -o %s -j ACCEPT, and the same with -i", JA: "iptables-legacy-save と ip6tables-legacy-save で見られます。Docker のものなら: iptables-legacy -I DOCKER-USER -o %s -j ACCEPT と、同じく -i で"},
	UFW:            ui.Text{EN: "ufw has no hook for programs like this one: allow it by hand: ufw route allow proto %s from any to %s port %d", JA: "ufw には、このようなプログラムのための仕組みがありません。手で許可してください: ufw route allow proto %s from any to %s port %d"},
	Verify:         ui.Text{EN: "kakuri verify %s compares what was asked for with what is", JA: "kakuri verify %s が、求めたものと実際とを比べます"},
	PublishAll:     ui.Text{EN: "publish it at all addresses for other machines: -p %d:%d", JA: "ほかのマシンのためには、すべてのアドレスで公開してください: -p %d:%d"},
	ForContainer:   ui.Text{EN: "for a container, publish another port of the host, or end that program", JA: "コンテナには、ホストの別のポートで公開するか、そのプログラムを終わらせてください"},
	StopIt:         ui.Text{EN: "publish another port of the host, or kakuri stop %s", JA: "ホストの別のポートで公開するか、kakuri stop %s をしてください"},
	ConnectBridge:  ui.Text{EN: "kakuri network connect NETWORK %s, one of driver bridge", JA: "kakuri network connect ネットワーク %s(ドライバーが bridge のもの)"},
	BridgeUp:       ui.Text{EN: "ip link set %s up, then kakuri system check --repair", JA: "ip link set %s up、続けて kakuri system check --repair"},
	PublishedMore:  ui.Text{EN: "%s; what is published is %s, and %d more, which kakuri ps shows", JA: "%s。公開されているもの: %s、ほか %d 件(kakuri ps で見られます)"},
	ShowsPort:      ui.Text{EN: "nft -a list chain %s %s %s shows it; allow port %d/%s before it", JA: "nft -a list chain %s %s %s で見られます。ポート %d/%s を、その前で許可してください"},

	OfHost:      ui.Text{EN: "%s/%s of the host  →  %s %s", JA: "ホストの %s/%s  →  %s %s"},
	Routed:      ui.Text{EN: "%s  %s/%s, without a port of the host", JA: "%s  %s/%s、ホストのポートなし"},
	OfContainer: ui.Text{EN: "port %d/%s of %s", JA: "%[3]s のポート %[1]d/%[2]s"},
	Port:        ui.Text{EN: "port %d/%s of the host", JA: "ホストのポート %d/%s"},
	Yes:         ui.Text{EN: "reachable", JA: "届きます"},
	YesHosts:    ui.Text{EN: "reachable, but it is no container's of kakuri's", JA: "届きますが、kakuri のコンテナのものではありません"},
	AsMeant:     ui.Text{EN: ", as it should be", JA: "(これで正常です)"},
	No:          ui.Text{EN: "not reachable", JA: "届きません"},
	Finding:     ui.Text{EN: "%s: %s", JA: "%s: %s"},
	Way:         ui.Text{EN: "way out: %s", JA: "対処: %s"},
	Tested:      ui.Text{EN: "tested", JA: "試した結果"},
	NotRead:     ui.Text{EN: "not read: %s", JA: "読めなかったもの: %s"},
	Inside:      ui.Text{EN: "from inside", JA: "コンテナの中から"},
	Host:        ui.Text{EN: "from host", JA: "ホストから"},
	Network:     ui.Text{EN: "from network %s", JA: "ネットワーク %s から"},
}

// in is a reason as a heading.
func (r Reason) in(l ui.Lang) string {
	if l != ui.JA {
		return string(r)
	}
	switch r {
	case Reachable:
		return "届きます"
	case OnlyHere:
		return "このマシンからだけ届きます"
	case NotRunning:
		return "コンテナが動いていません"
	case Paused:
		return "コンテナが一時停止しています"
	case OtherContainer:
		return "別のコンテナがそのポートを使っています"
	case NoNetwork:
		return "ネットワークがありません"
	case OthersNetwork:
		return "別のコンテナのネットワークです"
	case OtherProgram:
		return "ホストのプログラムがそのポートを使っています"
	case Nobody:
		return "誰もそのポートを使っていません"
	case NotPublished:
		return "公開されていません"
	case NobodyListens:
		return "誰も待ち受けていません"
	case LoopbackInside:
		return "中のループバックだけで待ち受けています"
	case OtherFamily:
		return "別のアドレスで待ち受けています"
	case InternalNetwork:
		return "内部専用のネットワークです"
	case BridgeMissing:
		return "ブリッジがないか、down です"
	case WrongBridge:
		return "別のブリッジにつながっています"
	case DeviceDown:
		return "コンテナの機器がないか、down です"
	case RouteMissing:
		return "経路がありません"
	case TableMissing:
		return "kakuri のテーブルがありません"
	case NotForwarded:
		return "ホストが転送しません"
	case Dropped:
		return "ファイアウォールの規則が捨てます"
	case MayBeDropped:
		return "ファイアウォールの規則が捨てるかもしれません"
	case NotKnown:
		return "分かりません"
	}
	return ""
}

// in is a result for a person.
func (r Result) in(l ui.Lang) string {
	if l != ui.JA {
		return string(r)
	}
	switch r {
	case Connected:
		return "つながりました"
	case Answered:
		return "返事がありました"
	case Arrived:
		return "届きました"
	case Refused:
		return "拒否されました"
	case Reset:
		return "すぐに切断されました"
	case NoAnswer:
		return "返事がありません"
	case Unreachable:
		return "到達できません"
	case NotAllowed:
		return "許可されていません"
	case Failed:
		return "失敗しました"
	}
	return ""
}

// from is where a test began.
func from(l ui.Lang, where string) string {
	switch {
	case where == "inside":
		return l.Say(say.Inside)
	case where == "host":
		return l.Say(say.Host)
	}
	return l.Say(say.Network, where[min(len("network "), len(where)):])
}

// hostPort is an address with its port and protocol.
func hostPort(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
