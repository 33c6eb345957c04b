// The C# end of a chat over a named pipe. What is typed here appears there, and the other way round.
// "bye", or the end of the input, ends a side; the program ends when both have said it.

using System;
using System.IO;
using System.IO.Pipes;
using System.Text;
using System.Threading;

static class Chat
{
    static void Main()
    {
        var utf8 = new UTF8Encoding(false);
        Console.InputEncoding = utf8;
        Console.OutputEncoding = utf8;
        using (var pipe = new NamedPipeClientStream(".", "chat", PipeDirection.InOut, PipeOptions.Asynchronous))
        {
            pipe.Connect(20000);
            var reader = new StreamReader(pipe, utf8);
            var writer = new StreamWriter(pipe, utf8) { AutoFlush = true };
            var listener = new Thread(() =>
            {
                for (string text; (text = reader.ReadLine()) != null && text != "bye";)
                    Console.WriteLine("Python: " + text);
            });
            listener.Start();
            for (string text; (text = Console.ReadLine()) != null && text != "bye";)
                writer.WriteLine(text);
            writer.WriteLine("bye");
            listener.Join();
        }
    }
}
