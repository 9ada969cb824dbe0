"""The flake as a library: what another flake gets of its outputs, with a real nixpkgs.

    NIXPKGS=FOLDER pytest tests/nixos/library.py

It needs Nix. Nothing is built, and no network is needed. A test takes ten seconds.
"""

import json
import os
import pathlib
import subprocess
import typing

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
NIXPKGS = os.environ.get("NIXPKGS", "")

#: The longest that a test may take, in seconds.
SECONDS = 600

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree to evaluate"),
    pytest.mark.needs("nix"),
    pytest.mark.timeout(SECONDS),
]

#: The outputs of a flake that has both flakes as inputs.
OUTPUTS = """{{ nixpkgs, nixos-image }}:
let
  inherit (nixpkgs) lib;
  base = {here}/configuration.nix;
  pc = {{ nixpkgs.hostPlatform = "x86_64-linux"; }};
  pi = {{ nixpkgs.hostPlatform = "aarch64-linux"; }};
  system = modules: lib.nixosSystem {{ modules = [ base ] ++ modules; }};
in
{text}
"""

#: Calls them without a copy in the store, which takes half a minute.
CALL = f"""
let
  flakeAt = folder: inputs:
    let
      outputs = (import (folder + "/flake.nix")).outputs (inputs // {{ inherit self; }});
      self = outputs // {{ outPath = folder; inherit inputs; }};
    in
    self;
  nixpkgs = flakeAt "{NIXPKGS}" {{ }};
  nixos-image = flakeAt "{ROOT}" {{ inherit nixpkgs; }};
in
import ./outputs.nix {{ inherit nixpkgs nixos-image; }}
"""


@pytest.fixture
def told(tmp_path: pathlib.Path) -> typing.Callable[[str], str]:
    """Return what Nix tells of an expression: a value as JSON, or the error."""

    def tell(text: str) -> str:
        (tmp_path / "outputs.nix").write_text(OUTPUTS.format(here=HERE, text=text))
        (tmp_path / "call.nix").write_text(CALL)
        words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure"]
        # With room for all values Nix collects no garbage, which is a fifth of its time.
        heap = {**os.environ, "GC_INITIAL_HEAP_SIZE": "2G"}
        done = subprocess.run(
            [*words, "--json", "--file", tmp_path / "call.nix"],
            capture_output=True,
            text=True,
            check=False,
            env=heap,
        )
        return done.stdout or done.stderr

    return tell


@pytest.fixture
def value(told: typing.Callable[[str], str]) -> typing.Callable[[str], typing.Any]:
    """Return an expression's value."""
    return lambda text: json.loads(told(text))


def test_a_module_in_the_call_of_nixos_system_is_the_configurations(
    told: typing.Callable[[str], str], tmp_path: pathlib.Path
) -> None:
    """Such a module has the file of nixpkgs that calls it for its own."""
    error = told("""
    let evaluated = system [ pc { swapDevices = [ { device = "/dev/sda2"; } ]; }
      { fileSystems."/srv" = { device = "/dev/sdb1"; fsType = "ext4"; }; } ];
    in (nixos-image.lib.imagesOf { inherit evaluated; formats = [ "raw-efi" ]; }).raw-efi.drvPath
    """)
    assert "swapDevices (in a module without a file): /dev/sda2 is not in the image" in error
    assert f'fileSystems."/srv" ({tmp_path}/outputs.nix:11): /dev/sdb1' in error


def test_generators_function_takes_generators_arguments(
    value: typing.Callable[[str], typing.Any],
) -> None:
    """A system of another tree's `pkgs` has the modules of `nixosSystem`."""
    seen = value("""
    let
      one = more: nixos-image.nixosGenerate ({ modules = [ base ]; format = "qcow"; } // more);
      overlays = [ (_: _: { path = "/another/tree"; mark = "overlaid"; }) ];
      pkgs = import nixpkgs { system = "aarch64-linux"; inherit overlays; };
      nixosSystem = arguments: nixpkgs.lib.nixosSystem
        (arguments // { modules = arguments.modules ++ [{ networking.hostName = "moon"; }]; });
      given = one {
        inherit pkgs nixosSystem;
        lib = lib.extend (_: _: { planet = "venus"; });
        specialArgs.site = "here";
        modules = [ base ({ lib, pkgs, site, ... }: {
          nixosImage = { label = "${pkgs.mark}-${lib.planet}"; baseName = site; };
        }) ];
      };
    in {
      inherit (given.spec) name system root;
      host = given.config.networking.hostName;
      plain = (one { system = "riscv64-linux"; buildSystem = "x86_64-linux"; }).system;
      own = (one { format = "raw-efi"; modules = [ base pi ]; }).spec.system;
    }
    """)
    assert (seen["name"], seen["system"], seen["host"]) == ("here", "aarch64-linux", "moon")
    assert seen["root"]["label"] == "overlaid-venus"
    assert (seen["plain"], seen["own"]) == ("x86_64-linux", "aarch64-linux")


#: A format as nixos-generators has them.
CARD = """
({ config, pkgs, lib, ... }: {
  formatAttr = "card";
  fileExtension = ".txt";
  system.build.card = pkgs.writeText "greeting-${config.networking.hostName}" "";
  fileSystems."/".device = "/dev/null";
  boot.loader.grub.enable = false;
})"""


def test_a_format_of_ones_own_is_a_module_or_a_row(
    value: typing.Callable[[str], typing.Any], tmp_path: pathlib.Path
) -> None:
    """It may be a file, too, and have a name that one of the table has, or its other name."""
    (tmp_path / "card.nix").write_text(CARD)
    seen = value(f"""
    let
      custom = name: format: nixos-image.nixosGenerate {{
        modules = [ base pc {{ networking.hostName = "moon"; }} ];
        format = name;
        customFormats.${{name}} = format;
      }};
      row = nixos-image.lib.formats.raw-efi;
      own = {{ nixosImage.partitionTableType = "efixbootldr"; }};
    in {{
      module = (custom "card" {CARD}).name;
      alias = (custom "qcow" {CARD}).name;
      file = (custom "raw" "{tmp_path}/card.nix").name;
      row = (custom "row" (row // {{ modules = row.modules ++ [ own ]; }})).spec.partitionTable;
    }}
    """)
    assert {seen[one] for one in ("module", "alias", "file")} == {"greeting-moon"}
    assert seen["row"] == "efixbootldr"


def test_all_formats_are_of_the_configuration(value: typing.Callable[[str], typing.Any]) -> None:
    """One alone is evaluated: others may fail. A format has what is said of any of its names."""
    seen = value(f"""
    let
      inherit (system [ nixos-image.nixosModules.all-formats pc {{
        networking.hostName = "moon";
        nixosImage.label = "shared";
        formatConfigs.qcow.networking.hostName = lib.mkForce "venus";
        formatConfigs.qemu.nixosImage.additionalSpace = 1;
        formatConfigs.iso = throw "an iso is evaluated";
        formatConfigs.lxc.environment.etc.inside.text = "lxc";
        formatConfigs.card.imports = [ {CARD} ];
        formatConfigs.sd-aarch64 = {{ }};
      }} ]) config;
      inherit (config) formats;
    in {{
      names = lib.attrNames formats;
      qcow = {{ inherit (formats.qcow.spec) format diskFormat root name; }};
      same = formats.qcow.config.system.build.toplevel == formats.qemu.config.system.build.toplevel;
      raw = formats.raw-efi.spec.name;
      lxc = formats.lxc.config.environment.etc.inside.text;
      card = formats.card.name;
    }}
    """)
    names = ["raw", "raw-efi", "qcow", "qcow-efi", "gce", "do", "install-iso", "iso", "vm", "card"]
    assert set(names) <= set(seen["names"])
    assert not {"sd-card", "sd-riscv64"} & set(seen["names"])
    qcow = seen["qcow"]
    assert (qcow["format"], qcow["diskFormat"], qcow["root"]["label"]) == (
        "qcow",
        "qcow2",
        "shared",
    )
    assert qcow["root"]["additionalSpaceMiB"] == 1
    assert (qcow["name"].split("-")[0], seen["raw"].split("-")[0]) == ("venus", "moon")
    assert (seen["same"], seen["lxc"], seen["card"]) == (True, "lxc", "greeting-moon")


def test_a_format_that_the_system_does_not_support_says_so(
    told: typing.Callable[[str], str],
) -> None:
    error = told("""
    (system [ nixos-image.nixosModules.all-formats pc { formatConfigs.sd-aarch64 = { }; } ])
      .config.formats.sd-aarch64.drvPath
    """)
    assert "format sd-aarch64 supports aarch64-linux, not x86_64-linux" in error


def test_a_formats_module_makes_a_configuration_its_image(
    value: typing.Callable[[str], typing.Any],
) -> None:
    """Options of the format's modules may stand in it."""
    seen = value("""
    let
      configured = name: more: (system [ nixos-image.nixosModules.${name} more ]).config;
      told = name: { inherit (configured name pc) formatAttr fileExtension; };
      isSame = name: more:
        let plain = nixos-image.nixosGenerate { modules = [ base more ]; format = name; };
        in (configured name more).system.build.${name}.drvPath == plain.drvPath;
    in {
      told = lib.genAttrs [ "qcow" "sd-aarch64" "vm" ] told;
      qcow = isSame "qcow" (pc // { nixosImage.label = "own"; virtualisation.diskSize = 9000; });
      iso = isSame "iso" (pc // { isoImage.volumeID = "OWN"; });
    }
    """)
    extensions = {"qcow": ".qcow2", "sd-aarch64": ".img.zst", "vm": ""}
    expected = {
        name: {"formatAttr": name, "fileExtension": suffix} for name, suffix in extensions.items()
    }
    assert seen == {"told": expected, "qcow": True, "iso": True}


def test_a_system_to_switch_to_is_the_images(told: typing.Callable[[str], str]) -> None:
    """An image stands for its configuration; the one it is made of has no disk to start from."""
    configuration = "(system [ nixos-image.nixosModules.qcow pc ])"
    toplevel = "config.system.build.toplevel.drvPath"
    error = told(f"{configuration}.{toplevel}")
    assert "the system is that of the image, config.system.build.qcow.config" in error
    image = f"{configuration}.config.system.build.qcow"
    assert json.loads(told(f"{image}.{toplevel} == {image}.toplevel.drvPath")) is True


def test_a_mistake_in_a_configuration_that_is_an_image_is_told(
    told: typing.Callable[[str], str],
) -> None:
    error = told("""
    (system [ nixos-image.nixosModules.qcow pc { networking.hostname = "moon"; } ])
      .config.system.build.qcow.drvPath
    """)
    assert "The option `networking.hostname' does not exist" in error


@pytest.mark.parametrize("name", ["disk", "raw-efi"])
def test_a_module_of_the_flake_hides_nothing_that_an_image_is_compared_with(
    told: typing.Callable[[str], str], name: str
) -> None:
    """The module of a disk takes the place of the configuration's own one, but not in silence."""
    error = told(f"""
    let
      evaluated = system [ nixos-image.nixosModules.{name} pc
        {{ fileSystems."/" = {{ device = "/dev/mapper/root"; fsType = "btrfs"; }}; }} ];
    in (nixos-image.lib.imagesOf {{ inherit evaluated; formats = [ "raw-efi" ]; }}).raw-efi.drvPath
    """)
    assert 'fileSystems."/"' in error
    assert "btrfs" in error


def test_each_argument_of_nixpkgs_builder_is_an_option_or_told(
    value: typing.Callable[[str], typing.Any],
) -> None:
    seen = value("""{
      there = let file = nixpkgs + "/nixos/lib/make-disk-image.nix"; in
        lib.attrNames (lib.functionArgs (import file));
      here = lib.attrNames (system [ nixos-image.nixosModules.default pc ]).options.nixosImage;
    }""")
    there = set(seen["there"])
    assert there - set(seen["here"]) == {"pkgs", "lib", "config", "name"}
    section = (ROOT / "docs/nixos.md").read_text().split("\n## Options\n")[1].split("\n## ")[0]
    assert {name for name in there if f"`{name}" not in section} == set()


def test_the_firmware_that_writes_variables_is_the_one_of_the_options(
    value: typing.Callable[[str], typing.Any],
) -> None:
    commands = value(f"""
    let
      image = nixos-image.nixosGenerate {{
        system = "x86_64-linux";
        format = "raw-efi";
        modules = [ base {{
          nixosImage = {{ touchEFIVars = true; efiFirmware = {HERE}/lib.sh; efiVariables = base; }};
        }} ];
      }};
    in image.preVM + image.QEMU_OPTS
    """)
    assert "-lib.sh" in commands
    assert "-configuration.nix" in commands
