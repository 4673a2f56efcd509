"""Jars from Maven, one folder for each set of them that java/ has a pom of; kept between runs."""

import shutil

from harness import BUILD, BUILD_SECONDS_MAX, CLIENTS, run

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def jars(name):
    """The class path of java/NAME.pom.xml's jars, which are brought unless they are there."""
    pom = CLIENTS / "java" / f"{name}.pom.xml"
    folder = BUILD / "java" / name / "jars"
    stamp = folder.with_name("pom.xml")
    if not stamp.exists() or stamp.read_bytes() != pom.read_bytes():
        for jar in folder.glob("*.jar"):  # of another version
            jar.unlink()
        run(["mvn", "-q", "-B", "-f", pom, COPY, f"-DoutputDirectory={folder}"],
            seconds_max=BUILD_SECONDS_MAX)
        stamp.write_bytes(pom.read_bytes())
    return f"{folder}/*"


def files(name, pattern):
    """Those jars of that set whose file names match."""
    jars(name)
    return sorted((BUILD / "java" / name / "jars").glob(pattern))


def classes(name, sources, more_jars=()):
    """Compiles `sources` on that class path and returns the whole class path to run them with."""
    class_path = ":".join([jars(name), *more_jars])
    folder = BUILD / "java" / name / "classes"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.rglob("*.class"):
        stale.unlink()
    run(["javac", "-proc:none", "-Xlint:-options", "-d", folder, "-cp", class_path, *sources])
    return f"{class_path}:{folder}"


def program(name, folders):
    """Compiles java/`folders`[0]/Client.java and what it uses, looked for in all of these folders,
    against the jars of that name; returns the command that runs it."""
    class_path = jars(name)
    classes = BUILD / "java" / name / "classes"
    shutil.rmtree(classes, ignore_errors=True)
    classes.mkdir(parents=True)
    sources = [CLIENTS / "java" / folder for folder in folders]
    run(["javac", "-proc:none", "-nowarn", "-d", classes, "-cp", class_path, "-sourcepath",
         ":".join(map(str, sources)), sources[0] / "Client.java"])
    # One garbage collector thread: the broker has the same two cores.
    return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{class_path}:{classes}", "Client"]
