/** On clients 4. Arguments: HOST:PORT, a prefix for names, a part of the checks' names. */
public final class Client {
    public static void main(String[] arguments) {
        if (arguments.length > 2) {
            Check.only(arguments[2]);
        }
        new DataChecks(arguments[0], arguments[1]).runAll();
        new GroupChecks(arguments[0], arguments[1]).runAll();
        new ConsumerProtocolChecks(arguments[0], arguments[1]).runAll();
        new GroupAdminChecks(arguments[0], arguments[1]).runAll();
        new AdminChecks(arguments[0], arguments[1]).runAll();
        new IdChecks(arguments[0], arguments[1]).runAll();
        new NewAdminChecks(arguments[0], arguments[1]).runAll();
        if ("refused".equals(System.getenv("TRANSACTIONS"))) {
            new NoTransactionsChecks(arguments[0], arguments[1]).runAll();
        }
    }
}
