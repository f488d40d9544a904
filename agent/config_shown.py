"""`assent-agent config`: what is set here, where everything lies, and what the policy asks."""

import json

import click
import msgspec

from agent import config as configuration
from agent.consent.policy import load as load_policy
from agent.telling import plain
from base.clock import SystemClock
from base.paths import paths_for


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def show_config(*, as_json: bool) -> None:
    """Show configuration, paths, opt-outs and what the policy asks.

    \b
    Example:
      assent-agent config --json

    \b
    Keys of config.toml (they can only restrict):
      quota_bytes = 1073741824     room for sealed batches; when full, recording stops
      log_level   = "info"         or "debug"
      opt_out     = ["screen"]     categories never recorded here, or ["all"]
      input_source = "auto"        how input is watched: or "xinput2", or "pynput"
      proxy       = ""             the way to the collector, as in "http://proxy.example:3128",
                                   or "none"; left out, what /etc/assent/proxy says
      resume      = "notice"       or "click": a pause that ran out waits for your click
    """  # noqa: D301 - click's mark
    paths = paths_for("agent")
    settings = configuration.load(paths.config)
    in_force = load_policy(paths.state, SystemClock().now())
    policy = in_force.policy
    facts = {
        "paths": {
            name: str(getattr(paths, name)) for name in ("config", "state", "logs", "runtime")
        },
        "config": msgspec.to_builtins(settings),
        "opt_outs": {
            place: sorted(categories)
            for place, categories in configuration.outside_opt_outs(settings).items()
        },
        "policy": {"problem": in_force.problem}
        if policy is None
        else {
            "digest": (in_force.digest or b"").hex(),
            "programme": policy.programme,
            "controller": policy.controller.name,
            "collector": policy.collector.origin,
            "guard": f"{policy.guard.name}, run by {policy.guard.run_by}",
            "hold_seconds": policy.hold_seconds,
            "categories": {rule.category.value: rule.level for rule in policy.categories},
            "applications": [f"{a.process} ({a.window_class})" for a in policy.applications],
        },
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2, default=str))
        return
    for section, values in facts.items():
        click.echo(f"[{section}]")
        for name, value in dict(values).items() or (("none", ""),):
            click.echo(f"  {name:<13} {plain(value)}".rstrip())
