use std::path::PathBuf;

use super::launchd::Launchd;
use super::systemd::Systemd;
use super::tasks::TaskScheduler;
use super::{Starter, call};
use crate::service::{Activity, Restart, ServiceSpec};

fn spec(program: &str, arguments: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: "gogrid",
        description: "Models, 100% <local>",
        program: program.to_owned(),
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        environment: vec![("GOGRID_CACHE".into(), "/media/50% $off/a & b".into())],
        restart: Restart {
            after_s: 10,
            never_after: &[2, 3],
        },
        stop_s: 40,
    }
}

/// Each has a meaning somewhere: a space, both quotes, a percent sign, a dollar sign, XML's characters, a
/// backslash, a separator of systemd's, nothing.
const HARD: [&str; 9] = [
    "serve",
    "--model=/my models/a.gguf",
    "say \"it's\"",
    "50%h",
    "$HOME",
    "<a&b>",
    r"back\slash",
    ";",
    "",
];

fn launchd() -> Launchd {
    Launchd {
        user: 501,
        log: "/Users/a/Library/Logs/gogrid.log".to_owned(),
    }
}

fn tasks() -> TaskScheduler {
    TaskScheduler {
        user: r"DESK\a&b".to_owned(),
    }
}

#[test]
fn a_unit_of_systemd_quotes_what_has_a_meaning_there() {
    let unit = Systemd.bytes(&spec("/opt/my $apps/gogrid", &HARD)).unwrap();
    let expected = r#"# written by `gogrid service install`, which replaces it
[Unit]
Description=Models, 100%% <local>
After=default.target
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
Environment="GOGRID_CACHE=/media/50%% $off/a & b"
ExecStart="/opt/my $apps/gogrid" serve "--model=/my models/a.gguf" "say \"it's\"" "50%%h" "$$HOME" "<a&b>" "back\\slash" ";" ""
Restart=on-failure
RestartSec=10
RestartPreventExitStatus=2 3
TimeoutStopSec=40
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"#;
    assert_eq!(String::from_utf8(unit.clone()).unwrap(), expected);
    let command = Systemd.command(&unit).unwrap();
    assert!(
        command.starts_with(r#""/opt/my $apps/gogrid" serve "#),
        "{command}"
    );
    assert_eq!(Systemd.command(b"[Unit]\n"), None);
    let lines = Systemd
        .bytes(&spec("/gogrid", &["two\nlines\u{7f}"]))
        .unwrap();
    assert_eq!(
        Systemd.command(&lines).unwrap(),
        r#"/gogrid "two\x0alines\x7f""#
    );
}

#[test]
fn an_agent_of_launchd_escapes_what_has_a_meaning_in_xml() {
    let plist = launchd()
        .bytes(&spec("/Applications/a b/gogrid", &HARD))
        .unwrap();
    let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<!-- written by `gogrid service install`, which replaces it -->
<plist version=\"1.0\">
<dict>
	<key>Label</key>
	<string>gogrid</string>
	<key>ProgramArguments</key>
	<array>
		<string>/Applications/a b/gogrid</string>
		<string>serve</string>
		<string>--model=/my models/a.gguf</string>
		<string>say \"it's\"</string>
		<string>50%h</string>
		<string>$HOME</string>
		<string>&lt;a&amp;b&gt;</string>
		<string>back\\slash</string>
		<string>;</string>
		<string></string>
	</array>
	<key>EnvironmentVariables</key>
	<dict>
		<key>GOGRID_CACHE</key>
		<string>/media/50% $off/a &amp; b</string>
	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ThrottleInterval</key>
	<integer>10</integer>
	<key>StandardErrorPath</key>
	<string>/Users/a/Library/Logs/gogrid.log</string>
	<key>ExitTimeOut</key>
	<integer>40</integer>
</dict>
</plist>
";
    assert_eq!(String::from_utf8(plist.clone()).unwrap(), expected);
    assert_eq!(
        launchd().command(&plist).unwrap(),
        r#""/Applications/a b/gogrid" serve "--model=/my models/a.gguf" "say \"it's\"" 50%h $HOME <a&b> back\slash ; """#
    );
    assert_eq!(launchd().command(b"<plist/>"), None);
}

#[test]
fn a_task_of_windows_quotes_as_its_programs_read_and_escapes_xml() {
    let words = [
        "serve",
        "a b",
        r#"say "x""#,
        r"C:\my models\",
        r"a\b",
        "<a&b>",
        "",
    ];
    let file = tasks()
        .bytes(&spec(r"C:\Program Files\gogrid.exe", &words))
        .unwrap();
    assert_eq!(file[..2], [0xff, 0xfe], "UTF-16 and little-endian");
    let units: Vec<u16> = file[2..]
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let expected = r#"<?xml version="1.0" encoding="UTF-16"?>
<!-- written by `gogrid service install`, which replaces it -->
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>Models, 100% &lt;local&gt;</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <UserId>DESK\a&amp;b</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>DESK\a&amp;b</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT60S</Interval>
      <Count>5</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>C:\Program Files\gogrid.exe</Command>
      <Arguments>serve "a b" "say \"x\"" "C:\my models\\" a\b &lt;a&amp;b&gt; ""</Arguments>
    </Exec>
  </Actions>
</Task>
"#;
    assert_eq!(String::from_utf16(&units).unwrap(), expected);
    assert_eq!(
        tasks().command(&file).unwrap(),
        r#""C:\Program Files\gogrid.exe" serve "a b" "say \"x\"" "C:\my models\\" a\b <a&b> """#
    );
    assert_eq!(tasks().command(b"x"), None);
}

#[test]
fn what_a_system_has_no_way_to_say_is_not_supported_by_name() {
    let check = |got: Result<Vec<u8>, crate::ServiceError>, evidence: &str| {
        let error = got.unwrap_err().to_string();
        assert!(
            error.starts_with("not supported: ") && error.contains(evidence),
            "{error}"
        );
    };
    check(launchd().bytes(&spec("/gogrid", &["a\u{1}b"])), r"'\u{1}'");
    check(tasks().bytes(&spec("C:\\gogrid.exe", &["a\nb"])), r"'\n'");
    check(tasks().bytes(&spec("C:\\gogrid.exe", &["50%h"])), "50%h");
    check(tasks().bytes(&spec("C:\\gogrid.exe", &["$(Arg0)"])), "$(");
}

#[test]
fn files_are_where_each_system_looks_for_them() {
    let set = |variables: &'static [(&str, &str)]| {
        move |name: &str| -> Option<PathBuf> {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, path)| PathBuf::from(path))
        }
    };
    let unit = |variables| Systemd.path("gogrid", &set(variables));
    let both = unit(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]).unwrap();
    assert_eq!(both, PathBuf::from("/c/systemd/user/gogrid.service"));
    let home = unit(&[("HOME", "/h")]).unwrap();
    assert_eq!(
        home,
        PathBuf::from("/h/.config/systemd/user/gogrid.service")
    );
    let nowhere = unit(&[]).unwrap_err().to_string();
    assert!(nowhere.contains("XDG_CONFIG_HOME"), "{nowhere}");
    let agent = launchd().path("gogrid", &set(&[("HOME", "/h")])).unwrap();
    assert_eq!(agent, PathBuf::from("/h/Library/LaunchAgents/gogrid.plist"));
    let task = tasks()
        .path("gogrid", &set(&[("LOCALAPPDATA", "/l")]))
        .unwrap();
    assert_eq!(task, PathBuf::from("/l/gogrid/service.xml"));
}

#[test]
fn each_system_is_told_in_its_own_commands() {
    let file = PathBuf::from("/f");
    assert_eq!(
        Systemd.load("gogrid", &file),
        [
            call(&["systemctl", "--user", "daemon-reload"]),
            call(&["systemctl", "--user", "enable", "--now", "gogrid.service"]),
        ]
    );
    assert_eq!(
        Systemd.unload("gogrid"),
        [call(&[
            "systemctl",
            "--user",
            "disable",
            "--now",
            "gogrid.service"
        ])]
    );
    assert_eq!(
        launchd().load("gogrid", &file),
        [call(&["launchctl", "bootstrap", "gui/501", "/f"])]
    );
    assert_eq!(
        launchd().unload("gogrid"),
        [call(&["launchctl", "bootout", "gui/501/gogrid"])]
    );
    assert_eq!(
        tasks().load("gogrid", &file)[0],
        call(&["schtasks", "/create", "/f", "/tn", "gogrid", "/xml", "/f"])
    );
    assert_eq!(
        tasks().unload("gogrid").last().unwrap(),
        &call(&["schtasks", "/delete", "/f", "/tn", "gogrid"])
    );
}

#[test]
fn what_a_system_says_of_a_service_is_read_and_nothing_is_made_up() {
    let check = |starter: &dyn Fn(&str) -> Activity, said: &str, expected: Activity| {
        assert_eq!(starter(said), expected, "{said:?}");
    };
    let systemd = |said: &str| Systemd.activity(said);
    let since = "ActiveEnterTimestamp=Mon 2026-11-30 10:31:00 UTC\nActiveState=active\n";
    let time = "Mon 2026-11-30 10:31:00 UTC".to_owned();
    check(&systemd, since, Activity::Running(Some(time)));
    let unsaid = "ActiveState=active\nActiveEnterTimestamp=\n";
    check(&systemd, unsaid, Activity::Running(None));
    check(&systemd, "ActiveState=activating\n", Activity::Starting);
    check(&systemd, "ActiveState=inactive\n", Activity::Stopped);
    check(&systemd, "ActiveState=failed\n", Activity::Failed);
    let is_unknown = |activity: Activity| assert!(matches!(activity, Activity::Unknown(_)));
    is_unknown(systemd("ActiveState=purple\n"));
    is_unknown(systemd(""));
    let launchd = |said: &str| launchd().activity(said);
    let printed = "gui/501/gogrid = {\n\tactive count = 1\n\tstate = running\n\tpid = 7\n}\n";
    check(&launchd, printed, Activity::Running(None));
    check(&launchd, "\tstate = not running\n", Activity::Stopped);
    is_unknown(launchd("}"));
    let tasks = |said: &str| tasks().activity(said);
    check(&tasks, "4\r\n", Activity::Running(None));
    check(&tasks, "3\r\n", Activity::Stopped);
    is_unknown(tasks("Running"));
}
