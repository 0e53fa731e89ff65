package ui

// words are the messages of this package.
var words = struct {
	// Namespaces and their processes.
	Host, HostName, HereName, WorldName, Namespace   Text
	PIDHere, PIDOnly, UIDHere, UIDOnly               Text
	OnHost, InLevel, Outside, Unmapped, OfPID        Text
	Kind, KindNamed, OwnedBy, CreatedBy, StartedBy   Text
	Owns, IDOne, IDRange, IDNone                     Text
	Processes, Namespaces, MoreProcesses, MoreSpaces Count
	MoreLines, Unreadable                            Count
	MoreDevices                                      Text

	// ns ps and ns diff.
	Process, HereHost, Here, In, InsideOf          Text
	SeesOne, SeesBoth, SeesAll, SeesNone, NoDeeper Text
	Deeper                                         Count
	Type, Shared, Different, Unknown, ShareNone    Text
	Share, NothingIn                               Text
	Compared                                       Count

	// Networks.
	EndIn, EndOnHost, EndHere, EndUnseen, Down, PublishedAt, NetPicture, PortOf Text

	// The picture.
	PIDPicture, UserPicture, Described, KeyPID, KeyUID, KeySight, KeyRights Text
}{
	Host:          Text{"the host", "ホスト"},
	HostName:      Text{"host", "ホスト"},
	HereName:      Text{"here", "ここ"},
	WorldName:     Text{"your networks", "自分のネットワーク"},
	Namespace:     Text{"namespace %d", "名前空間 %d"},
	PIDHere:       Text{"pid %d here", "ここでは pid %d"},
	PIDOnly:       Text{"pid %d", "pid %d"},
	UIDHere:       Text{"uid %s here", "ここでは uid %s"},
	UIDOnly:       Text{"uid %s", "uid %s"},
	OnHost:        Text{"%s on the host", "ホストでは %s"},
	InLevel:       Text{"%[1]s in %[2]s", "%[2]s では %[1]s"},
	Outside:       Text{"%s further out", "さらに外側では %s"},
	Unmapped:      Text{"not mapped", "対応なし"},
	OfPID:         Text{"pid %d", "pid %d"},
	Kind:          Text{"%s namespace %d", "%s 名前空間 %d"},
	KindNamed:     Text{"%s namespace %d (%s)", "%s 名前空間 %d (%s)"},
	OwnedBy:       Text{"owned by user namespace %d", "所有者は user 名前空間 %d"},
	CreatedBy:     Text{"created by uid %d", "作成者は uid %d"},
	StartedBy:     Text{"started by %s (pid %d)", "%s (pid %d) が起動"},
	Owns:          Text{"owns %s", "所有: %s"},
	IDOne:         Text{"uid %d is %d outside", "uid %d は外側の %d"},
	IDRange:       Text{"uids %d-%d are %d-%d outside", "uid %d-%d は外側の %d-%d"},
	IDNone:        Text{"uids %d-%d have no ids outside", "uid %d-%d は外側に対応なし"},
	Processes:     Count{"%d process", "%d processes", "%d プロセス"},
	Namespaces:    Count{"%d namespace", "%d namespaces", "%d 名前空間"},
	MoreProcesses: Count{"+ %d more process", "+ %d more processes", "+ 他 %d プロセス"},
	MoreSpaces:    Count{"+ %d more namespace", "+ %d more namespaces", "+ 他 %d 名前空間"},
	MoreLines:     Count{"+ %d more", "+ %d more", "+ 他 %d"},
	MoreDevices:   Text{"more devices or addresses than were read", "機器またはアドレスがほかにもあります(読んでいません)"},
	Unreadable: Count{
		"%d process does not let this user read its namespaces",
		"%d processes do not let this user read their namespaces",
		"%d プロセスの名前空間は、このユーザーには読めません",
	},

	Process:  Text{"process", "プロセス"},
	HereHost: Text{"here (host)", "ここ (ホスト)"},
	Here:     Text{"here", "ここ"},
	In:       Text{"in %s", "%s の中"},
	InsideOf: Text{"inside %s", "%s の内側"},
	SeesOne: Text{
		"%[1]s sees it; %[2]s sees 1 of %[1]s's %[3]d processes",
		"%[1]sからはこのプロセスが見えます。%[2]s から見えるのは、%[1]sの %[3]d プロセスのうちこれだけです",
	},
	SeesBoth: Text{
		"%[1]s sees both; %[2]s sees 2 of %[1]s's %[3]d processes",
		"%[1]sからは両方が見えます。%[2]s から見えるのは、%[1]sの %[3]d プロセスのうち 2 つだけです",
	},
	SeesAll: Text{
		"%[1]s sees all %[4]d; %[2]s sees %[4]d of %[1]s's %[3]d processes",
		"%[1]sからは %[4]d すべてが見えます。%[2]s から見えるのは、%[1]sの %[3]d プロセスのうち %[4]d だけです",
	},
	SeesNone: Text{"%s has no process", "%s にはプロセスがありません"},
	NoDeeper: Text{"no process is in a nested pid namespace", "入れ子の pid 名前空間にいるプロセスはありません"},
	Deeper: Count{
		"%d of these processes is in a nested pid namespace and has another number there",
		"%d of these processes are in nested pid namespaces and have other numbers there",
		"このうち %d プロセスは入れ子の pid 名前空間にいて、そこでは別の番号を持ちます",
	},
	Type:      Text{"type", "種類"},
	Shared:    Text{"shared", "共有"},
	Different: Text{"different", "別々"},
	Unknown:   Text{"unknown", "不明"},
	Share:     Text{"%[1]s and %[2]s share %[3]d of %[4]d namespaces: %[5]s", "%[1]s と %[2]s は %[4]d 個のうち %[3]d 個の名前空間を共有しています: %[5]s"},
	ShareNone: Text{"%s and %s share none of %d namespaces", "%s と %s は %d 個の名前空間を 1 つも共有していません"},
	Compared:  Count{"%d more cannot be compared", "%d more cannot be compared", "ほかの %d 個は比べられません"},
	NothingIn: Text{"no namespace of %s and %s can be compared", "%s と %s の名前空間は比べられません"},

	PIDPicture:  Text{"Processes in their pid namespaces", "pid 名前空間とプロセス"},
	UserPicture: Text{"Processes in their user namespaces", "user 名前空間とプロセス"},
	Described:   Text{"%[1]s: %[2]s, %[3]s.", "%[1]s: %[2]s、%[3]s。"},
	KeyPID: Text{
		"Large: the pid inside. Small: the same process as outer namespaces number it.",
		"大きな数字は内側での pid、小さな数字は同じプロセスの外側での pid です。",
	},
	KeyUID: Text{
		"Large: the uid inside. Small: the same user as outer namespaces number it.",
		"大きな数字は内側での uid、小さな数字は同じユーザーの外側での uid です。",
	},
	KeySight: Text{
		"A box sees all that is inside it, and nothing outside it.",
		"箱から見えるのは箱の内側だけで、外側は見えません。",
	},
	KeyRights: Text{
		"Root inside a box has its powers there, and none outside it.",
		"箱の中の root の権限は箱の中だけのもので、外側では通用しません。",
	},

	EndHere:     Text{"%s here", "ここの %s"},
	EndUnseen:   Text{"in a namespace that is not shown", "ここに現れない名前空間の中"},
	EndIn:       Text{"%s in %s", "%[2]s の %[1]s"},
	EndOnHost:   Text{"%s on the host", "ホストの %s"},
	Down:        Text{"down", "停止"},
	PublishedAt: Text{"published %s", "公開 %s"},
	NetPicture:  Text{"Network namespaces and what connects them", "ネットワーク名前空間とそのつながり"},
	PortOf:      Text{"port of %s", "%s のポート"},
}
