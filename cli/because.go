package cli

import (
	"strings"
	"sync"

	"github.com/kakuri/kakuri/ui"
)

// inLang gives the reason of a step of a plan in a language. A plan has its reasons in English, where the steps are made; the words of flags,
// fields of config.json and names stay what they are in all languages, and so does a reason that nobody has translated.
func inLang(l ui.Lang, reason string) string {
	if l == ui.EN {
		return reason
	}
	if whole, ok := translated(reason); ok {
		return whole
	}
	// A step may be there for several things.
	parts := strings.Split(reason, ", ")
	for i, part := range parts {
		parts[i], _ = translated(part)
	}
	return strings.Join(parts, ", ")
}

// translated gives one reason in Japanese, and says whether there was one.
func translated(reason string) (string, bool) {
	if ja, ok := reasons()[reason]; ok {
		return ja, true
	}
	if of, ok := strings.CutPrefix(reason, "default: "); ok {
		return "既定: " + inLang(ui.JA, of), true
	}
	for _, p := range reasonParts {
		if args := matched(reason, p.EN); args != nil {
			if p.ofReason {
				args[0] = inLang(ui.JA, args[0].(string))
			}
			return ui.JA.Say(p.Text, args...), true
		}
	}
	return reason, false
}

// headings are the words of a plan's table, and the sentence behind its sums.
var headings = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"side":      "側",
		"operation": "操作",
		"because":   "理由",
		"sum":       "合計",
		"of its steps, waiting for the other side included": "その側の手順の合計。相手側を待つ時間を含む",
	}
})

// matched gives what stands in s for each %s of a format, nil where s is not of that format.
func matched(s, format string) (args []any) {
	parts := strings.Split(format, "%s")
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return nil
	}
	for i, part := range parts[1:] {
		end := strings.Index(s, part)
		if i == len(parts)-2 {
			end = len(s) - len(part)
		}
		if end < 0 || s[end:end+len(part)] != part {
			return nil
		}
		args, s = append(args, s[:end]), s[end+len(part):]
	}
	return args
}

// A reasonPart is a reason with something in it: a name, a number, or where ofReason is set another reason before all else.
type reasonPart struct {
	ui.Text
	ofReason bool
}

// reasonParts has the longer ones first.
var reasonParts = []reasonPart{
	{ui.Text{EN: "%s: what others may not read on the host is not shown", JA: "%s: ホストで他人に読めないものは見せない"}, true},
	{ui.Text{EN: "%s, without NET_RAW: %s", JA: "%s、ただし NET_RAW なし: %s"}, true},
	{ui.Text{EN: "no more than %s processes", JA: "プロセスは %s 個まで"}, false},
	{ui.Text{EN: "%s capabilities", JA: "ケーパビリティは %s 個"}, false},
	{ui.Text{EN: "the container's own %s", JA: "コンテナ自身の %s"}, false},
	{ui.Text{EN: "%s: that container's", JA: "%s: そのコンテナのもの"}, false},
	{ui.Text{EN: "all namespaces of %s", JA: "%s の名前空間すべて"}, false},
	{ui.Text{EN: "what %s does", JA: "%s がすること"}, false},
	{ui.Text{EN: "image %s", JA: "イメージ %s"}, false},
	{ui.Text{EN: "network %s", JA: "ネットワーク %s"}, false},
}

// reasons are the others, and what may stand behind "default: ".
var reasons = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"command": "コマンド",
		"default": "既定",

		// Namespaces and ids.
		"own namespaces":                "自分の名前空間",
		"ids of its own":                "自分の ID の範囲",
		"a process of its own":          "自分のプロセス",
		"a session of its own":          "自分のセッション",
		"no keys of the caller":         "呼び出し元の鍵を持たない",
		"the container's id":            "コンテナの ID",
		"root":                          "root",
		"--network host: the machine's": "--network host: このマシンのもの",
		"only the caller may id-map":    "ID マップを付けられるのは呼び出し元だけ",
		"the kernel's rule for maps written without privileges":          "特権なしで書く ID マップについての、カーネルの決まり",
		"the kernel's rule for a map of one group, without privileges":   "特権なしで一つのグループだけを写す場合の、カーネルの決まり",
		"root of the container's user namespace builds the rest":         "ここからはコンテナの user 名前空間の root が作る",
		"root of a user namespace may not come to every source":          "user 名前空間の root がどの元にも届くとは限らない",
		"root of the joined user namespace":                              "入った user 名前空間の root",
		"a pid namespace holds only processes made after it was entered": "pid 名前空間に属すのは、そこに入ったあとに作られたプロセスだけ",
		"its ids are mapped in its user namespace":                       "その user 名前空間に ID の対応が書かれる",
		"a new network namespace starts with loopback down":              "新しい network 名前空間では、ループバックは down で始まる",
		"without --fork, the program ends with this command":             "--fork がないので、プログラムはこのコマンドとともに終わる",
		"the program ends with this command":                             "プログラムはこのコマンドとともに終わる",

		// Control groups.
		"a control group of its own":             "自分のコントロールグループ",
		"its own devices":                        "自分のデバイス",
		"as much swap as --memory":               "スワップは --memory と同じだけ",
		"who runs out of memory ends as a whole": "メモリーが尽きたら全体が終わる",
		"who runs out of memory ends as a whole, and makes no more than a share of the control groups that there can be": "メモリーが尽きたら全体が終わり、作れるコントロールグループはマシンの上限の一部まで",
		"the process begins in its cgroup":  "プロセスは自分のコントロールグループの中で始まる",
		"root inside may divide its cgroup": "中の root がコントロールグループを分けられる",

		// The two sides.
		"the container's side waits until then":               "コンテナ側はここまで待つ",
		"the process that forks is needed until then":         "fork するプロセスはここまで必要",
		"files of /proc/self that are needed later":           "後で使う /proc/self のファイル",
		"nothing inside may lead to this program's file":      "中の何からも、このプログラムのファイルにたどり着けない",
		"a created container waits as a program of one page":  "作成済みのコンテナは、1 ページのプログラムになって待つ",
		"a created container waits for its start":             "作成済みのコンテナは start を待つ",
		"nothing inside may look at or into this process":     "中からは、このプロセスを調べることも覗くこともできない",
		"no signal that the caller ignores is ignored inside": "呼び出し元が無視するシグナルも、中では無視されない",
		"not bound to the caller's processors":                "呼び出し元のプロセッサーに縛られない",
		"a container without its runtime would be nobody's":   "ランタイムのいないコンテナは、誰のものでもなくなる",
		"all is built":                                       "すべて出来上がった",
		"the program finds its network":                      "プログラムが始まるとき、ネットワークはもうある",
		"signals were blocked over the clone":                "clone の間、シグナルは止めてあった",
		"hooks come before the root is the root":             "フックはルートが切り替わる前",
		"hooks look for the container's files in its bundle": "フックはコンテナのファイルをそのバンドルの中に探す",

		// The root and its mounts.
		"no mount made inside reaches the host":                        "中のマウントはホストに届かない",
		"masks of files need the host's null device":                   "ファイルを隠すのに、ホストの null デバイスが要る",
		"where the layers are put together":                            "レイヤーを重ねる場所",
		"writes stay in memory, and end with the container":            "書き込みはメモリー上に残り、コンテナとともに消える",
		"one mount for all containers of the image":                    "このイメージのコンテナすべてに、マウントは一つ",
		"the host's files are out of reach from here on":               "ここから先、ホストのファイルには届かない",
		"others are in this mount namespace, and keep their root":      "この mount 名前空間にはほかの者もいて、その人たちのルートはそのまま",
		"the container's root is no mount namespace's":                 "コンテナのルートは、mount 名前空間のルートではない",
		"the caller is in a chroot, above which the machine's root is": "呼び出し元は chroot の中にいて、マシンのルートはその上にある",
		"what is made in the root has the mode it is to have":          "ルートの中に作るものは、決めたとおりのモードになる",
		"the mounts are at /etc/mtab, too":                             "マウントの一覧は /etc/mtab にもある",
		"programs tell by it that this is a container":                 "プログラムはこれで、コンテナの中だと知る",
		"file systems of the kernel":                                   "カーネルのファイルシステム",
		"devices of runtime-spec":                                      "runtime-spec のデバイス",
		"links of runtime-spec":                                        "runtime-spec のリンク",
		"root inside changes no device of the machine":                 "中の root は、マシンのデバイスを変えられない",
		"kernel settings are read-only":                                "カーネルの設定は読み取り専用",
		"tells of the host":                                            "ホストのことが分かってしまう",
		"kernel parameters are written past the container's own /proc": "カーネルパラメーターは、コンテナ自身の /proc を通さずに書く",
		"labels are written past the container's own /proc":            "ラベルは、コンテナ自身の /proc を通さずに書く",
		"the working directory is looked up below it":                  "作業ディレクトリは、この下で探す",

		"image host: empty, not the host's":                            "イメージ host: ホストのものではなく、空にする",
		"image host: people's data is not shown":                       "イメージ host: 人のデータは見せない",
		"image host: secrets and others' data are not shown":           "イメージ host: 秘密と、他人のデータは見せない",
		"image host: not of the operating system":                      "イメージ host: OS の一部ではない",
		"image host: closed to others, and needed to install packages": "イメージ host: 他人には閉じていて、パッケージを入れるのに要る",

		// The process.
		"no core dumps":                      "コアダンプを残さない",
		"limits":                             "制限",
		"umask 0022":                         "umask 0022",
		"/":                                  "/",
		"seccomp profile":                    "seccomp プロファイル",
		"no descriptor of the caller":        "呼び出し元のファイル記述子を持たない",
		"its user may open its streams anew": "ユーザーは、自分の入出力を開き直せる",
		"low ports and ping without capabilities":                                    "小さい番号のポートと ping は、ケーパビリティなしで使える",
		"capabilities are set after the change of user":                              "ケーパビリティを決めるのは、ユーザーを替えたあと",
		"capabilities end with the change of user":                                   "ケーパビリティは、ユーザーを替えると失われる",
		"the filter has to be loaded with CAP_SYS_ADMIN":                             "フィルターを載せるには CAP_SYS_ADMIN が要る",
		"the program is looked for by what it is executed by":                        "プログラムは、実行するのと同じ権限で探す",
		"the stub's execve takes what is not ambient; the stub sets it as asked for": "スタブの execve で、ambient でないものは失われる。求められたとおりに決めるのはスタブ",

		// Networks.
		"as the container that it shares processes or IPC with":                     "プロセスか IPC を共有する相手のコンテナと同じ",
		"containers reach others by the host":                                       "コンテナは、ホストを通ってほかに届く",
		"networks are apart, and reached by published ports only":                   "ネットワークどうしは分かれていて、届くのは公開されたポートだけ",
		"containers of a network know each other's names":                           "同じネットワークのコンテナは、互いの名前を知っている",
		"an ordinary user's containers are connected to networks of the user's own": "一般ユーザーのコンテナは、そのユーザー自身のネットワークにつながる",
		"a MAC is one container's, so no address waits for an answer":               "MAC アドレスは一つのコンテナのものなので、応答を待たない",
		"a neighbour is no router":                                                  "隣はルーターではない",
		"a network without IPv6 brings no addresses of its neighbours' making":      "IPv6 のないネットワークでは、隣が作ったアドレスを受け取らない",
		"it is connected there":                                                     "そこでつなぐ",
		"network devices are moved there":                                           "ネットワーク機器をそこへ移す",
		"published ports":                                                           "公開されたポート",
		"the server for names has an address of lo":                                 "名前のサーバーは lo のアドレスで待つ",
		"the way to all others":                                                     "ほかのすべてへの道",
		"what may be reached":                                                       "届いてよい先",
		"a network world for this user's containers":                                "このユーザーのコンテナのための、ネットワークの世界",
		"containers are left of a network world, whose network namespace has ended": "ネットワークの世界のコンテナが残っていて、その network 名前空間はもうない",
		"a parent that has ended before is missed here":                             "親が先に終わっていれば、ここで分かる",
		"it ends here":                        "ここで終わる",
		"it is a part of this command":        "このコマンドの一部",
		"it stays when its parent ends":       "親が終わっても残る",
		"it works on the user's own networks": "ユーザー自身のネットワークを扱う",
		"its namespaces are opened now":       "ここで名前空間を開く",
	}
})
