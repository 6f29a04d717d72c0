# fish completion for weir: put it into ~/.config/fish/completions/weir.fish.
function __weir_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    for line in ($before[1] complete-words -- $before[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':files' ':directories'
                set -l flag (string match -r '^--[^=]*=' -- "$current")
                set -l path (string replace -r '^--[^=]*=' '' -- "$current")
                for file in (__fish_complete_path "$path")
                    echo "$flag$file"
                end
                return
            case '*'
                echo $line
        end
    end
end
complete -c weir -f -a '(__weir_complete)'
