/** On clients before 3.1. Arguments: HOST:PORT, a prefix for names, a part of the checks' names. */
public final class Client {
    public static void main(String[] arguments) {
        if (arguments.length > 2) {
            Check.only(arguments[2]);
        }
        new DataChecks(arguments[0], arguments[1]).runAll();
        new GroupChecks(arguments[0], arguments[1]).runAll();
        new GroupAdminChecks(arguments[0], arguments[1]).runAll();
        new AdminChecks(arguments[0], arguments[1]).runAll();
        new AlterConfigsChecks(arguments[0], arguments[1]).runAll();
    }
}
