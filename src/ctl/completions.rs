//! `berthctl completions`: a script for the user's shell. In bash, unit names are
//! completed from the running supervisor.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Context;
use super::args::Cli;
use super::failure::Failure;

/// Wraps the generated function: where a verb takes units, asks the supervisor.
const BASH_UNITS: &str = r#"
_berthctl_with_units() {
    local word verb=""
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$word" in
            status|start|stop|restart|reload|reset|kill|freeze|thaw|logs|exec|show|audit|deps|graph|critical-chain|top|stats)
                verb="$word"; break ;;
        esac
    done
    _berthctl "$@"
    if [[ -n "$verb" && "${COMP_WORDS[COMP_CWORD]}" != -* ]]; then
        COMPREPLY=($(compgen -W "$(berthctl list --names 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
    fi
}
complete -F _berthctl_with_units -o bashdefault -o default berthctl
"#;

/// Prints the script.
///
/// # Errors
/// The output is broken.
pub fn run(context: &mut Context, shell: Shell) -> Result<(), Failure> {
    // In memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "berthctl", &mut script);
    context.out.write_all(&script).map_err(Failure::Output)?;
    if shell == Shell::Bash {
        context.out.write_all(BASH_UNITS.as_bytes()).map_err(Failure::Output)?;
    }
    Ok(())
}
